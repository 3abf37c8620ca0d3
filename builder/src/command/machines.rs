//! `kitbuild ps`, `console` and `stop`: machines that run detached.

use crate::cli::StopArgs;
use crate::report::Report;
use crate::signals::Signals;
use crate::temporary::Watch;
use anyhow::Context;
use kit_machine::console::{Left, Relay, relay};
use kit_spec::machine::Name;
use serde_json::json;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

pub fn ps(report: &Report) -> anyhow::Result<()> {
    for listed in kit_machine::list().context("list machines")? {
        let name = &listed.machine.name;
        let owner = listed.owner.map_or_else(|| "detached".into(), |pid| format!("run by process {pid}"));
        let text = format!("{name:<24} {:>8}  {:>6} MiB  {owner}", listed.pid, listed.machine.memory_mib);
        let object = json!({"name": name, "pid": listed.pid, "owner": listed.owner, "log": listed.log});
        report.result(&text, object);
    }
    Ok(())
}

pub fn stop(args: &StopArgs, report: &Report) -> anyhow::Result<()> {
    let name = &args.machine.name;
    let exit =
        kit_machine::stop(name, Duration::from_secs(args.grace)).with_context(|| format!("stop {name}"))?;
    report.result(&format!("{name}: {exit}"), json!({"name": name, "exit": exit.to_string()}));
    Ok(())
}

pub fn console(name: &Name, watch: Watch) -> anyhow::Result<ExitCode> {
    // A signal leaves the console as its escape does, with the terminal as it was.
    let mut signals = Signals::take().context("prepare for signals")?;
    let told = signals.readable().context("prepare for signals")?;
    drop(watch);
    let running = kit_machine::attach(name).with_context(|| format!("join the console of {name}"))?;
    let mut console = running.console();
    console.seek_to_last(20);
    let (input, output) = (io::stdin(), io::stdout());
    let ends = Relay {
        input: input.as_fd(),
        output: output.as_fd(),
        escape: Relay::ESCAPE,
        cancel: Some(told.as_fd()),
    };
    let left = relay(&mut console, ends);
    if !matches!(left, Ok(Left::Ended)) {
        running.detach().with_context(|| format!("leave {name} running"))?;
    }
    match left.with_context(|| format!("the console of {name}"))? {
        Left::Cancelled => Ok(signals.exit_code()),
        Left::Escape | Left::Ended => Ok(ExitCode::SUCCESS),
    }
}
