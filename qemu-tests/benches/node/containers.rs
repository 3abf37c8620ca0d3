//! One `kitc run` beside one `crun run`: the same bundle, the same guest, the same minute, one after the other in turn.
//! A service of `race.yml` does it and prints hundredths of seconds.

use kit_spec::artifact::Format;
use qemu_tests::bench::Table;
use qemu_tests::{Boot, Guest, Kitbuild};
use std::error::Error;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(180);
/// Of crun's time.
const LIMIT: f64 = 0.5;

pub fn measure(kitbuild: &Kitbuild, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let node = qemu_tests::workspace().join("qemu-tests/benches/node/race.yml");
    let built = kitbuild.build(&node, Format::KernelInitrd)?;
    let mut guest = Guest::boot(&built, &Boot::default())?;
    guest.forbid("race: lost");
    let line = guest.line("race: done", WITHIN)?;
    let word = |name: &str| {
        let mut words = line.split_whitespace();
        let number = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok());
        number.filter(|number| *number > 0.0).ok_or_else(|| format!("no {name}= in `{line}`"))
    };
    let (runs, kitc, crun) = (word("runs")?, word("kitc")?, word("crun")?);
    // From hundredths of seconds of all runs.
    let each = |all: f64| all * 10.0 / runs;
    table.figure("kitc run, mean of 10: half of crun's", each(kitc), Some(each(crun) * LIMIT), "ms");
    table.figure("  crun in the same guest", each(crun), None, "ms");
    Ok(())
}
