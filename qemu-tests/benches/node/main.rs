//! What a booted node costs, as a table: time to ready, memory of PID 1, a container's start beside crun's, bytes of the
//! smallest initrd.
//!
//! ```text
//! cargo bench -p qemu-tests --bench node            all
//! cargo bench -p qemu-tests --bench node -- boot    those whose name contains this
//! ```
//!
//! Looks from outside, as the tests do: at the console, and at what programs in the guest print there. Times are those
//! of this machine while nothing else runs on it; a busy one makes them worse. Fails if a figure is over its limit.

mod boot;
mod containers;
mod memory;
mod size;

use qemu_tests::Kitbuild;
use qemu_tests::bench::Table;
use std::error::Error;
use std::process::ExitCode;

type Measure = fn(&Kitbuild, &mut Table) -> Result<(), Box<dyn Error>>;

const ALL: [(&str, Measure); 4] = [
    ("size", size::measure),
    ("boot", boot::measure),
    ("memory", memory::measure),
    ("kitc", containers::measure),
];

fn main() -> ExitCode {
    // Cargo itself says `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let kitbuild = match Kitbuild::staged() {
        Ok(kitbuild) => kitbuild,
        Err(missing) => {
            println!("skipped: {missing}");
            return ExitCode::SUCCESS;
        }
    };
    println!("load average {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim_end());
    let (mut table, mut broken) = (Table::new("node"), false);
    for (name, measure) in ALL {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        eprintln!("measuring: {name}");
        if let Err(error) = measure(&kitbuild, &mut table) {
            broken = true;
            eprintln!("error: {name}: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("caused by: {error}");
                cause = error.source();
            }
        }
    }
    print!("{table}");
    if broken || !table.is_within() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
