//! From the loader's first instruction to `kit: ready` of `yaml/node.yml`, under TCG on 2 processors.

use crate::table::{Row, median};
use kit_spec::artifact::Format;
use qemu_tests::{Boot, Guest, Kitbuild};
use std::error::Error;
use std::time::Duration;

/// Boots; the median counts.
const TIMES: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// The kernel's last line before the loader.
const LOADER: &str = "as init process";
const LIMIT_SECS: f64 = 2.0;

pub fn measure(kitbuild: &Kitbuild) -> Result<Vec<Row>, Box<dyn Error>> {
    let built = kitbuild.build(&qemu_tests::workspace().join("yaml/node.yml"), Format::KernelInitrd)?;
    let (mut kernel, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let mut guest = Guest::boot(&built, &Boot::default())?;
        guest.line(LOADER, WITHIN)?;
        let loader = guest.last_line_at();
        guest.line("kit: ready", WITHIN)?;
        kernel.push(loader.as_secs_f64());
        ready.push((guest.last_line_at() - loader).as_secs_f64());
    }
    let least = ready.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(vec![Row {
        name: "node.yml: loader to ready".into(),
        measured: median(&ready),
        limit: LIMIT_SECS,
        unit: "s",
        note: format!("median of {TIMES}, least {least:.2}; kernel before it {:.2} s", median(&kernel)),
    }])
}
