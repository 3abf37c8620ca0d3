//! A machine that boots what was built.

use crate::kitbuild::Built;
use crate::screen;
use crate::slot::Slot;
use kit_machine::console::Console;
use kit_machine::qemu::{OnReboot, QemuOptions};
use kit_machine::{Exit, LaunchError, Monitor, Running, WaitError};
use kit_spec::artifact::Firmware;
use kit_spec::machine::{Disk, Machine, MachineError, Medium, Name, Net, Options, Publish};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Lines of the console that a failure shows.
const SHOWN: usize = 120;

/// How long a guest may take to turn itself off after its power button.
const POWER_OFF_WITHIN: Duration = Duration::from_secs(60);

/// What the kernel says when all is lost; whoever waits for something else need not wait on.
const PANIC: &str = "Kernel panic - not syncing";

/// How a machine is made.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// The firmware, where there is a choice.
    pub firmware: Option<Firmware>,
    /// What a boot image is plugged in as, where there is a choice.
    pub medium: Option<Medium>,
    /// Further disks.
    pub disks: Vec<Disk>,
    /// Host ports that lead in.
    pub publish: Vec<Publish>,
}

impl Default for Boot {
    fn default() -> Boot {
        Boot { memory_mib: 512, cpus: 2, firmware: None, medium: None, disks: vec![], publish: vec![] }
    }
}

/// A machine that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Guest {
    running: Running,
    console: Console,
    last: Duration,
    unwanted: Vec<String>,
    _slot: Slot,
}

/// What went wrong with a machine.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// There was no place for it.
    #[error("wait for one of the places for machines")]
    Slot(#[source] io::Error),
    /// What was built does not boot so.
    #[error("make a machine of {format}")]
    Machine {
        /// The format.
        format: kit_spec::artifact::Format,
        /// Why not.
        #[source]
        source: MachineError,
    },
    /// It was not started.
    #[error("start the machine")]
    Launch(#[source] LaunchError),
    /// Its keyboard was not taken.
    #[error("press keys")]
    Keys(#[source] kit_machine::qmp::QmpError),
    /// A line did not come.
    #[error("no line with `{line}` within {within:?}: {why}; the console:\n{console}")]
    Line {
        /// What it should contain.
        line: String,
        /// The time it was given.
        within: Duration,
        /// What happened instead.
        why: String,
        /// The console's last lines.
        console: String,
    },
    /// A line came that should not.
    #[error("the line `{line}` must not come; the console:\n{console}")]
    Unwanted {
        /// The line.
        line: String,
        /// The console's last lines.
        console: String,
    },
    /// A line came too early.
    #[error("`{line}` came {gap:?} after the line before, sooner than {least:?}; the console:\n{console}")]
    Early {
        /// The line.
        line: String,
        /// The time between.
        gap: Duration,
        /// What it should have been at least.
        least: Duration,
        /// The console's last lines.
        console: String,
    },
    /// It did not end, or not as it should.
    #[error("the machine should have ended as `{wanted}`: {why}; the console:\n{console}")]
    End {
        /// How it should have ended.
        wanted: Exit,
        /// What happened instead.
        why: String,
        /// The console's last lines.
        console: String,
    },
}

impl Guest {
    /// Boots what was built. A guest that reboots ends, so that a kernel that panics does not do so for ever.
    ///
    /// # Errors
    /// When no machine can be made of it, or it does not start.
    pub fn boot(built: &Built, boot: &Boot) -> Result<Guest, GuestError> {
        let slot = Slot::take().map_err(GuestError::Slot)?;
        let options = Options {
            name: unique_name(&built.artifact.name),
            cpus: boot.cpus,
            memory_mib: boot.memory_mib,
            disks: boot.disks.clone(),
            nets: vec![Net::User { publish: boot.publish.clone() }],
            firmware: boot.firmware,
            medium: boot.medium,
        };
        let machine = Machine::new(&built.artifact, built.dir.path(), options)
            .map_err(|source| GuestError::Machine { format: built.artifact.format, source })?;
        let monitor = Monitor::Qemu(QemuOptions { on_reboot: OnReboot::End, ..QemuOptions::default() });
        let running = kit_machine::launch(&machine, &monitor).map_err(GuestError::Launch)?;
        let console = running.console();
        Ok(Guest { running, console, last: Duration::ZERO, unwanted: vec![PANIC.into()], _slot: slot })
    }

    /// Lets every wait end as a failure at once when a line contains this.
    pub fn forbid(&mut self, unwanted: impl Into<String>) {
        self.unwanted.push(unwanted.into());
    }

    /// Waits for a line that contains this, after the line that was waited for before; the whole line.
    ///
    /// # Errors
    /// When it does not come in time, or the kernel panics or a line comes first that is forbidden, with the console's
    /// last lines.
    pub fn line(&mut self, wanted: &str, within: Duration) -> Result<String, GuestError> {
        let unwanted = &self.unwanted;
        let is_unwanted = |line: &str| unwanted.iter().any(|text| line.contains(text));
        let found =
            self.console.wait_for_line(wanted, |line| line.contains(wanted) || is_unwanted(line), within);
        let why = match found {
            Ok(found) if found.line.contains(wanted) => {
                self.last = found.elapsed;
                return Ok(found.line);
            }
            Ok(found) => return Err(GuestError::Unwanted { line: found.line, console: self.last_lines() }),
            Err(WaitError::Ended { exit, .. }) => exit.to_string(),
            Err(WaitError::Deadline { .. }) => "it did not come".into(),
            Err(error) => error.to_string(),
        };
        Err(GuestError::Line { line: wanted.into(), within, why, console: self.last_lines() })
    }

    /// As [`Guest::line`], for one that must not come sooner than so long after the one before.
    ///
    /// # Errors
    /// Also when it does.
    pub fn line_after(
        &mut self,
        wanted: &str,
        least: Duration,
        within: Duration,
    ) -> Result<String, GuestError> {
        let before = self.last;
        let line = self.line(wanted, within)?;
        let gap = self.last.saturating_sub(before);
        if gap < least {
            return Err(GuestError::Early { line, gap, least, console: self.last_lines() });
        }
        Ok(line)
    }

    /// Checks that no line so far contains what is forbidden.
    ///
    /// # Errors
    /// When one does.
    pub fn nothing_forbidden(&self) -> Result<(), GuestError> {
        let is_unwanted = |line: &&str| self.unwanted.iter().any(|text| line.contains(text));
        match self.text().lines().find(is_unwanted) {
            None => Ok(()),
            Some(line) => Err(GuestError::Unwanted { line: line.into(), console: self.last_lines() }),
        }
    }

    /// Types a line on the console.
    ///
    /// # Errors
    /// When the guest does not read it.
    pub fn type_line(&self, text: &str) -> Result<(), GuestError> {
        self.console.send(format!("{text}\n").as_bytes()).map_err(|error| GuestError::Line {
            line: text.into(),
            within: Duration::ZERO,
            why: error.to_string(),
            console: self.last_lines(),
        })
    }

    /// Presses the power button and waits until the guest has turned the machine off by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn press_power(&self) -> Result<(), GuestError> {
        match self.running.stop(POWER_OFF_WITHIN) {
            Ok(Exit::PowerOff) => Ok(()),
            Ok(exit) => Err(self.wrong_end(Exit::PowerOff, exit.to_string())),
            Err(error) => Err(self.wrong_end(Exit::PowerOff, error.to_string())),
        }
    }

    /// Presses ctrl-alt-del.
    ///
    /// # Errors
    /// When the machine does not take it.
    pub fn press_ctrl_alt_del(&self) -> Result<(), GuestError> {
        self.running.press_ctrl_alt_del().map_err(GuestError::Keys)
    }

    /// Waits for the machine's end and checks what it is.
    ///
    /// # Errors
    /// When it does not end in time, or otherwise.
    pub fn ends(&self, wanted: Exit, within: Duration) -> Result<(), GuestError> {
        match self.running.wait(within) {
            Ok(exit) if exit == wanted => Ok(()),
            Ok(exit) => Err(self.wrong_end(wanted, exit.to_string())),
            Err(_) => Err(self.wrong_end(wanted, format!("it runs after {within:?}"))),
        }
    }

    /// All that the console printed, without control characters.
    pub fn text(&self) -> String {
        screen::plain(&self.running.transcript())
    }

    /// When the line that was last waited for came, since the machine was started.
    pub fn last_line_at(&self) -> Duration {
        self.last
    }

    /// The monitor's process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn last_lines(&self) -> String {
        screen::last_lines(&self.running.transcript(), SHOWN)
    }

    fn wrong_end(&self, wanted: Exit, why: String) -> GuestError {
        GuestError::End { wanted, why, console: self.last_lines() }
    }
}

/// A name that no other machine of this user has: the artifact's, this process's number, a count.
fn unique_name(of: &str) -> Name {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let plain: String = of.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(30).collect();
    let name = format!("test-{plain}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    // Letters, digits and dashes, 63 of them at most: always a name.
    name.parse().unwrap_or_else(|_| unreachable!("{name} is a name"))
}

/// Asks again and again until there is an answer or the time is over: for what tells nobody when it changes.
pub fn until<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
