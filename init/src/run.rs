//! PID 1's loop: what happens becomes an event, what is to be done is done.
//!
//! One thread, one epoll: signals (the dead, the power button's SIGTERM), containers' output, the control socket,
//! buttons, new devices, the clock. Nothing here decides what a failure means; [`supervise`](crate::supervise) does.

mod engine;
mod socket;

use crate::log::Console;
use crate::phase::STEPS;
use crate::supervise::{Action, Event, Finish, Order, Supervisor, Time};
use crate::{button, control, shutdown, sys};
use engine::Engine;
use kit_spec::plan::{self, Plan};
use rustix::event::epoll;
use socket::Clients;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Signals that PID 1 heeds: busybox's and systemd's meanings.
const SIGNALS: [i32; 6] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPWR];

/// What a ready descriptor is, in the upper half of its epoll word; the lower says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Output,
    Door,
    Client,
    Button,
    Devices,
}

const SOURCES: [Source; 6] =
    [Source::Signals, Source::Output, Source::Door, Source::Client, Source::Button, Source::Devices];

fn word(source: Source, which: u32) -> epoll::EventData {
    epoll::EventData::new_u64((source as u64) << 32 | u64::from(which))
}

/// The whole life of a node.
pub fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("error: kit-init is PID 1 of a node; `kitctl` talks to it");
        return ExitCode::FAILURE;
    }
    match Init::new() {
        Ok(init) => init.run(),
        Err(why) => {
            eprintln!("kit: init failed: {why}");
            shutdown::finish(Finish::PowerOff);
        }
    }
    // The kernel refused to end: standing still is what is left.
    loop {
        let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 3600, tv_nsec: 0 });
    }
}

struct Init {
    supervisor: Supervisor,
    engine: Engine,
    console: Console,
    clients: Clients,
    poll: OwnedFd,
    signals: OwnedFd,
    devices: Option<OwnedFd>,
    buttons: Vec<fs::File>,
    events: VecDeque<Event>,
    began: Instant,
    over: Option<Finish>,
}

impl Init {
    fn new() -> Result<Init, String> {
        let signals = sys::signal_descriptor(&SIGNALS).map_err(|error| format!("signals: {error}"))?;
        // The plan before anything else: without one there is nothing to do.
        let json = fs::read(plan::PATH).map_err(|error| format!("read {}: {error}", plan::PATH))?;
        let plan = Plan::parse(&json).map_err(|error| format!("{}: {error}", plan::PATH))?;
        drop(json);
        let mut trouble = Vec::new();
        for step in STEPS {
            if let Err(error) = step.run(&plan) {
                let text = format!("kit: {error}: {}", error.source);
                if step.is_fatal() {
                    return Err(text);
                }
                trouble.push(text);
            }
        }
        let quiet = fs::read_to_string("/proc/cmdline")
            .is_ok_and(|line| line.split_whitespace().any(|word| word == "kit.quiet"));
        let mut console = Console::open(quiet);
        for text in trouble {
            console.say(&text);
        }
        // ctrl-alt-del shall be a signal, not an end.
        let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let watch = |fd: &dyn AsFd, source, which| {
            let added = epoll::add(&poll, fd.as_fd(), word(source, which), epoll::EventFlags::IN);
            added.map_err(|error| format!("epoll: {error}"))
        };
        watch(&signals, Source::Signals, 0)?;
        let door = control::listen(Path::new(control::PATH))
            .map_err(|error| format!("{}: {error}", control::PATH))?;
        watch(&door, Source::Door, 0)?;
        let devices = sys::uevent_socket().ok();
        if let Some(devices) = &devices {
            watch(devices, Source::Devices, 0)?;
        }
        let buttons = button::open_all(Path::new("/dev/input"));
        for (which, button) in (0..).zip(&buttons) {
            watch(button, Source::Button, which)?;
        }
        let engine = Engine::new(&plan);
        let supervisor = Supervisor::new(plan);
        Ok(Init {
            supervisor,
            engine,
            console,
            clients: Clients::new(door),
            poll,
            signals,
            devices,
            buttons,
            events: VecDeque::from([Event::Boot]),
            began: Instant::now(),
            over: None,
        })
    }

    fn run(mut self) {
        while self.over.is_none() {
            self.happen();
            if self.over.is_some() {
                break;
            }
            self.wait();
        }
        self.engine.close(&mut self.console, self.began.elapsed());
        shutdown::finish(self.over.unwrap_or(Finish::PowerOff));
    }

    fn now(&self) -> Time {
        self.began.elapsed()
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
            for action in self.supervisor.step(event, now) {
                self.act(action, now);
            }
        }
    }

    fn act(&mut self, action: Action, now: Time) {
        match action {
            Action::Start(unit) => {
                let plan = self.supervisor.plan();
                if let Err(why) = self.engine.start(unit, plan, &self.poll) {
                    self.events.push_back(Event::Ended(unit, crate::supervise::End::NotStarted(why)));
                }
            }
            Action::Signal(unit, signal) => self.engine.signal(unit, signal),
            Action::Kill(unit, how) => self.engine.kill(unit, how),
            Action::Probe(service) => self.engine.probe(service, now),
            Action::Say(line) => self.console.say(&line.to_string()),
            Action::Finish(finish) => self.over = Some(finish),
        }
    }

    fn wait(&mut self) {
        let deadlines = [self.supervisor.deadline(), self.engine.deadline()];
        let now = self.now();
        let timeout = deadlines.into_iter().flatten().min().map(|at| {
            // Rounded up, or the loop would turn until the time has really come.
            let left = at.saturating_sub(now) + Duration::from_micros(100);
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        let mut ready: [std::mem::MaybeUninit<epoll::Event>; 32] =
            [const { std::mem::MaybeUninit::uninit() }; 32];
        let (ready, _) = match epoll::wait(&self.poll, &mut ready, timeout.as_ref()) {
            Ok(ready) => ready,
            Err(_) => return,
        };
        let words: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
        for word in words {
            let which = word as u32;
            match SOURCES.get((word >> 32) as usize) {
                Some(Source::Signals) => self.signals(),
                Some(Source::Output) => {
                    let now = self.now();
                    let follow = self.engine.output(which, &mut self.console, now, &self.poll);
                    self.clients.follow(follow, &self.poll);
                }
                Some(Source::Door) => self.clients.accept(&self.poll),
                Some(Source::Client) => self.client(which),
                Some(Source::Button) => self.button(which),
                Some(Source::Devices) => self.devices(),
                None => {}
            }
        }
        let now = self.now();
        self.engine.probes(self.supervisor.plan(), now);
    }

    fn signals(&mut self) {
        while let Some(signal) = sys::next_signal(&self.signals) {
            match signal {
                libc::SIGCHLD => self.engine.reap(self.supervisor.plan(), &mut self.events),
                libc::SIGINT => self.finish(Finish::Reboot),
                libc::SIGUSR1 => self.finish(Finish::Halt),
                libc::SIGTERM | libc::SIGUSR2 | libc::SIGPWR => self.finish(Finish::PowerOff),
                _ => {}
            }
        }
    }

    fn finish(&mut self, finish: Finish) {
        self.events.push_back(Event::Order(Order::Finish(finish)));
    }

    fn client(&mut self, which: u32) {
        let orders = self.clients.serve(which, &self.supervisor, &self.engine, &self.poll);
        self.events.extend(orders.into_iter().map(Event::Order));
    }

    fn button(&mut self, which: u32) {
        if self.buttons.get_mut(which as usize).is_some_and(button::is_power) {
            self.finish(Finish::PowerOff);
        }
    }

    /// New devices: drivers, in a child as at boot, and buttons.
    fn devices(&mut self) {
        let Some(socket) = &self.devices else { return };
        let aliases = crate::module::heard(socket);
        if !aliases.is_empty() {
            // The child is reaped like any other.
            let _ = sys::fork(|| {
                if let Ok(mut loader) = crate::module::Loader::new(&crate::module::running()) {
                    aliases.iter().for_each(|alias| drop(loader.alias(alias)));
                }
                0
            });
        }
        let known = self.buttons.len();
        if known < 8 {
            for button in button::open_all(Path::new("/dev/input")) {
                if !self.buttons.iter().any(|old| button::is_same(old, &button)) {
                    let which = self.buttons.len() as u32;
                    let _ =
                        epoll::add(&self.poll, &button, word(Source::Button, which), epoll::EventFlags::IN);
                    self.buttons.push(button);
                }
            }
        }
    }
}
