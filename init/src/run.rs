//! PID 1's loop: what happens becomes an event, what is to be done is done.
//!
//! ```text
//! /proc /sys /dev, cgroups ─▶ a child loads drivers ─▶ mounts, .. volumes ─▶ drivers are there ─▶ the plan
//! ```
//!
//! One thread, one epoll: signals (the dead, SIGTERM), containers' output, the control socket, buttons, new devices, the
//! clock. Nothing here decides what a failure means; [`supervise`](crate::supervise) does.

mod devices;
mod engine;
mod probe;
mod socket;

use crate::log::Console;
use crate::phase::{AFTER_DRIVERS, BEFORE_DRIVERS, Step, WITH_DRIVERS};
use crate::supervise::{Action, End, Event, Finish, Line, Order, Supervisor, Time};
use crate::{ahead, control, module, shutdown, sys, trace};
use devices::Devices;
use engine::{Engine, Io};
use kit_spec::plan::{self, Plan};
use rustix::event::epoll;
use socket::Clients;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Signals that PID 1 heeds: busybox's and systemd's meanings.
const SIGNALS: [i32; 6] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPWR];
/// How long boot waits for drivers: one that hangs must not keep a node from starting.
const DRIVERS_LIMIT: Duration = Duration::from_secs(60);
/// After so long the processor's own drivers are loaded even if no service is ready yet: one may wait for KVM.
const HOLD_BACK: Duration = Duration::from_secs(5);
/// Nobody waits longer without looking at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long the end waits for what is still being deleted.
const LAST_LIMIT: Duration = Duration::from_secs(5);

/// What a ready descriptor is, in the upper half of its epoll word; the lower says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Output,
    Door,
    Client,
    Button,
    Devices,
    Drivers,
    Console,
}

const SOURCES: [Source; 8] = [
    Source::Signals,
    Source::Output,
    Source::Door,
    Source::Client,
    Source::Button,
    Source::Devices,
    Source::Drivers,
    Source::Console,
];

fn word(source: Source, which: u32) -> epoll::EventData {
    epoll::EventData::new_u64((source as u64) << 32 | u64::from(which))
}

/// The whole life of a node; or, as the kernel executes it (see [`module::requested`]), the loading of one module.
pub fn main() -> ExitCode {
    if std::process::id() != 1 {
        let args: Vec<String> = std::env::args().skip(1).collect();
        if let [quiet, dashes, name] = args.as_slice()
            && (quiet.as_str(), dashes.as_str()) == ("-q", "--")
        {
            return if module::requested(name) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        eprintln!("error: kit-init is PID 1 of a node; `kitctl` talks to it");
        return ExitCode::FAILURE;
    }
    match Init::new() {
        Ok(init) => {
            let finish = init.run();
            shutdown::finish(finish);
            // The kernel refused to end, or stands still.
            loop {
                sys::wait_for_child(Duration::from_secs(3600));
            }
        }
        // The end of PID 1 makes the kernel panic, which does what `panic=` says.
        Err(why) => {
            eprintln!("kit: init failed: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Init {
    plan: Rc<Plan>,
    supervisor: Supervisor,
    engine: Engine,
    console: Console,
    /// Whether the console is waited for.
    awaits_console: bool,
    clients: Clients,
    poll: OwnedFd,
    signals: OwnedFd,
    devices: Devices,
    events: VecDeque<Event>,
    began: Instant,
    /// When the processor's own drivers are loaded at the latest.
    go_on: Time,
    /// How it ends, and how long that may wait for the last children.
    over: Option<(Finish, Time)>,
}

impl Init {
    fn new() -> Result<Init, String> {
        let began = Instant::now();
        trace::begin();
        trace::mark(format_args!("init"));
        let signals = sys::signal_descriptor(&SIGNALS).map_err(|error| format!("signals: {error}"))?;
        // The plan before anything else: without one there is nothing to do.
        let json = fs::read(plan::PATH).map_err(|error| format!("read {}: {error}", plan::PATH))?;
        let plan = Plan::parse(&json).map_err(|error| format!("{}: {error}", plan::PATH))?;
        drop(json);
        let plan = Rc::new(plan);
        trace::mark(format_args!("parsed"));
        let mut trouble = steps(&BEFORE_DRIVERS, &plan)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let devices = Devices::new(&poll);
        ahead::begin(&plan);
        trouble.extend(steps(&WITH_DRIVERS, &plan)?);
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let mut console = Console::open(cmdline.split_whitespace().any(|word| word == "kit.quiet"));
        trouble.iter().for_each(|text| console.say(text));
        // ctrl-alt-del shall be a signal, not an end.
        let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
        let door = control::listen(Path::new(control::PATH))
            .map_err(|error| format!("{}: {error}", control::PATH))?;
        for (fd, source) in [(signals.as_fd(), Source::Signals), (door.as_fd(), Source::Door)] {
            epoll::add(&poll, fd, word(source, 0), epoll::EventFlags::IN)
                .map_err(|error| format!("epoll: {error}"))?;
        }
        let mut init = Init {
            supervisor: Supervisor::new(Rc::clone(&plan), panic_after(&cmdline)),
            engine: Engine::new(Rc::clone(&plan)),
            plan,
            console,
            awaits_console: false,
            clients: Clients::new(door),
            poll,
            signals,
            devices,
            events: VecDeque::new(),
            began,
            go_on: Time::MAX,
            over: None,
        };
        if !init.devices.are_missing() {
            init.boot();
        }
        Ok(init)
    }

    fn run(mut self) -> Finish {
        loop {
            self.happen();
            let now = self.now();
            match self.over {
                Some((finish, until)) if !self.engine.is_busy() || until <= now => return finish,
                _ => self.wait(now),
            }
        }
    }

    fn now(&self) -> Time {
        self.began.elapsed()
    }

    /// The machine is ready: the plan begins.
    fn boot(&mut self) {
        self.devices.no_longer_missing(&self.poll);
        // Their failures are told, and none is fatal.
        for text in steps(&AFTER_DRIVERS, &self.plan).unwrap_or_else(|text| vec![text]) {
            self.console.say(&text);
        }
        sys::trim_heap();
        self.go_on = self.now() + HOLD_BACK;
        self.events.push_back(Event::Boot);
    }

    /// Works off what happened, and what that brings.
    fn happen(&mut self) {
        loop {
            let now = self.now();
            let event = match self.events.pop_front() {
                Some(event) => event,
                None if self.supervisor.deadline().is_some_and(|deadline| deadline <= now) => Event::Tick,
                None => return,
            };
            trace::mark(format_args!("{event:?}"));
            for action in self.supervisor.step(event, now) {
                trace::mark(format_args!("  {action:?}"));
                self.act(action, now);
            }
        }
    }

    fn act(&mut self, action: Action, now: Time) {
        match action {
            Action::Start(unit) => {
                if let Err(why) = self.engine.start(unit, &self.poll) {
                    self.events.push_back(Event::Ended(unit, End::NotStarted(why)));
                }
            }
            Action::Signal(unit, signal) => self.engine.signal(unit, signal),
            Action::Kill(unit, how) => self.engine.kill(unit, how),
            Action::Probe(service) => self.engine.probe(service, now),
            Action::Say(line) => {
                self.console.say(&line.to_string());
                if matches!(line, Line::Ready | Line::BootStopped(_) | Line::Shutdown) {
                    self.devices.go_on();
                }
            }
            Action::Finish(finish) => self.over = Some((finish, now + LAST_LIMIT)),
        }
    }

    /// When something is to be done though nothing happens.
    fn deadline(&self) -> Option<Time> {
        let drivers = self.devices.are_missing().then_some(DRIVERS_LIMIT);
        let held_back = self.devices.are_held_back().then_some(self.go_on);
        let over = self.over.map(|(_, until)| until);
        let own = [drivers, held_back, over].into_iter().flatten();
        own.chain(self.supervisor.deadline()).chain(self.engine.deadline()).min()
    }

    fn wait(&mut self, now: Time) {
        self.await_console();
        let timeout = self.deadline().map(|at| {
            // Rounded up, or the loop would turn until the time has really come.
            let left = at.saturating_sub(now).min(LONGEST_WAIT) + Duration::from_micros(100);
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        let mut ready: [std::mem::MaybeUninit<epoll::Event>; 32] =
            [const { std::mem::MaybeUninit::uninit() }; 32];
        if let Ok((ready, _)) = epoll::wait(&self.poll, &mut ready, timeout.as_ref()) {
            for event in ready.iter() {
                let word = event.data.u64();
                if let Some(source) = SOURCES.get((word >> 32) as usize) {
                    self.heed(*source, word as u32);
                }
            }
        }
        let now = self.now();
        if self.devices.are_missing() && now >= DRIVERS_LIMIT {
            self.console.say("kit: boot goes on without the drivers that are still being loaded");
            self.boot();
        }
        if now >= self.go_on {
            self.devices.go_on();
        }
        self.engine.tick(&mut self.console, now);
    }

    /// The console is waited for only while it owes us something.
    fn await_console(&mut self) {
        let awaited = self.console.awaited();
        if let (Some(console), false) = (awaited, self.awaits_console) {
            let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
            self.awaits_console = epoll::add(&self.poll, console, word(Source::Console, 0), flags).is_ok();
        }
    }

    fn heed(&mut self, source: Source, which: u32) {
        match source {
            Source::Signals => self.signals(),
            Source::Output => {
                let now = self.now();
                if let Some(name) = self.engine.output(which, &mut self.console, now) {
                    self.clients.printed(name, &self.poll);
                }
            }
            Source::Door => self.clients.accept(&self.poll),
            Source::Client => {
                let orders = self.clients.serve(which, &self.supervisor, &self.engine, &self.poll);
                self.events.extend(orders.into_iter().map(Event::Order));
            }
            Source::Button if self.devices.pressed(which) => self.finish(Finish::PowerOff),
            Source::Button => {}
            Source::Devices => self.devices.heard(&self.poll),
            Source::Drivers => self.boot(),
            Source::Console => {
                if let Some(console) = self.console.awaited() {
                    let _ = epoll::delete(&self.poll, console);
                }
                self.awaits_console = false;
                self.console.flush();
            }
        }
    }

    fn signals(&mut self) {
        while let Some(signal) = sys::next_signal(&self.signals) {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGINT => self.finish(Finish::Reboot),
                libc::SIGUSR1 => self.finish(Finish::Halt),
                libc::SIGTERM | libc::SIGUSR2 | libc::SIGPWR => self.finish(Finish::PowerOff),
                _ => {}
            }
        }
    }

    /// Takes away all the dead; those that were nobody's are orphans.
    fn reap(&mut self) {
        let now = self.now();
        while let Some((pid, status)) = sys::reap(None) {
            if self.devices.dead(pid, &self.poll) {
                continue;
            }
            let mut io = Io { events: &mut self.events, console: &mut self.console, poll: &self.poll };
            self.engine.dead(pid, &status.into(), now, &mut io);
        }
    }

    fn finish(&mut self, finish: Finish) {
        self.events.push_back(Event::Order(Order::Finish(finish)));
    }
}

/// Does steps in order; what failed, or the failure without which it cannot go on.
fn steps(steps: &[Step], plan: &Plan) -> Result<Vec<String>, String> {
    let mut trouble = Vec::new();
    for step in steps {
        trace::mark(format_args!("{step:?}"));
        if let Err(error) = step.run(plan) {
            let text = format!("{error}: {}", error.source);
            if step.is_fatal() {
                return Err(text);
            }
            trouble.push(format!("kit: {text}"));
        }
    }
    Ok(trouble)
}

/// `kit.panic=SECONDS`.
fn panic_after(cmdline: &str) -> Option<Duration> {
    let words = cmdline.split_whitespace().rev();
    let value = words.filter_map(|word| word.strip_prefix("kit.panic=")).next()?;
    value.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_panic_counts() {
        assert_eq!(panic_after("quiet kit.panic=5 kit.panic=10\n"), Some(Duration::from_secs(10)));
        assert_eq!(panic_after("panic=5 kit.panic=x"), None);
    }

    #[test]
    fn words_say_which_source_they_are_of() {
        for source in SOURCES {
            let word = word(source, 7).u64();
            assert_eq!((SOURCES[(word >> 32) as usize], word as u32), (source, 7));
        }
    }
}
