//! From the loader's first instruction to `kit: ready` of `yaml/node.yml`, under TCG on 2 processors.

use kit_spec::artifact::Format;
use qemu_tests::bench::Table;
use qemu_tests::{Boot, Guest, Kitbuild};
use std::error::Error;
use std::time::Duration;

/// Boots; the median counts.
const TIMES: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// The kernel's last line before the loader.
const LOADER: &str = "as init process";
const LIMIT_SECS: f64 = 2.0;

pub fn measure(kitbuild: &Kitbuild, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let built = kitbuild.build(&qemu_tests::workspace().join("yaml/node.yml"), Format::KernelInitrd)?;
    let (mut kernel, mut ready) = ([0.0; TIMES], [0.0; TIMES]);
    for at in 0..TIMES {
        let mut guest = Guest::boot(&built, &Boot::default())?;
        guest.line(LOADER, WITHIN)?;
        let loader = guest.last_line_at();
        guest.line("kit: ready", WITHIN)?;
        kernel[at] = loader.as_secs_f64();
        ready[at] = (guest.last_line_at() - loader).as_secs_f64();
    }
    table.seconds("yaml/node.yml, loader to ready: median of 5 boots", median(&mut ready), Some(LIMIT_SECS));
    table.seconds("  the quickest", ready[0], None);
    table.seconds("  the kernel before it", median(&mut kernel), None);
    Ok(())
}

/// The middle of an odd number of values, which are sorted by it.
fn median(values: &mut [f64; TIMES]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[TIMES / 2]
}
