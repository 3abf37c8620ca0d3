//! What running a program costs, as GNU time says it.

use qemu_tests::kitbuild::{run, tool};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

pub use qemu_tests::bench::Cost;

/// Runs a command to its end. `file` is where time writes to.
pub fn measure(command: Command, file: &Path) -> Result<Cost, Box<dyn Error>> {
    let mut timed = Command::new(tool("time")?);
    timed.args(["--format", "%e %U %S %M", "--output"]).arg(file).arg("--");
    timed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    run(timed)?;
    let text = fs::read_to_string(file)?;
    let words: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wall, user, sys, peak_kib] = words[..] else { return Err(format!("time says `{text}`").into()) };
    Ok(Cost { wall, user, sys, peak_kib: peak_kib as u64 })
}
