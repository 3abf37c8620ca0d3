//! Asking services whether they are ready, in children that may block: the first one tries again and again for a second,
//! so that what is ready soon is known at once; each further one tries once, after a wait that doubles up to the probe's
//! interval.
//!
//! A host is an address, or a name in the container's `/etc/hosts`: nobody on the network is asked what it means.

use crate::container;
use crate::supervise::{End, Time};
use crate::sys;
use kit_spec::node::Probe;
use kit_spec::plan::Plan;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the first child tries, and how long it waits in between.
const EAGER: Duration = Duration::from_secs(1);
const EAGER_WAIT: Duration = Duration::from_millis(10);
/// The first wait between two children.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(10);

struct Trial {
    service: usize,
    /// When it is tried next; while it is being tried, when that has taken too long.
    next: Time,
    wait: Duration,
    /// Whether the next child is the first.
    eager: bool,
    /// The child that tries.
    child: Option<i32>,
    /// Whether the child was told to end.
    told: bool,
}

/// The services that are asked.
#[derive(Default)]
pub(super) struct Probes(Vec<Trial>);

impl Probes {
    /// Begins to ask.
    pub(super) fn begin(&mut self, service: usize, now: Time) {
        self.end(service);
        self.0.push(Trial { service, next: now, wait: FIRST_WAIT, eager: true, child: None, told: false });
    }

    /// Asks no more.
    pub(super) fn end(&mut self, service: usize) {
        self.0.retain(|trial| {
            let ours = trial.service == service;
            if let Some(child) = trial.child.filter(|_| ours) {
                sys::kill(child, libc::SIGKILL);
            }
            !ours
        });
    }

    /// When [`Probes::ask`] is wanted.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.0.iter().map(|trial| trial.next).min()
    }

    /// Whether a dead child tried for a service: `Some` of that service if it is ready.
    pub(super) fn dead(&mut self, pid: i32, end: &End, now: Time, plan: &Plan) -> Option<Option<usize>> {
        let at = self.0.iter().position(|trial| trial.child == Some(pid))?;
        if *end == End::Code(0) {
            return Some(Some(self.0.swap_remove(at).service));
        }
        let trial = &mut self.0[at];
        let interval = plan.services[trial.service].ready.as_ref().map_or(FIRST_WAIT, |ready| ready.interval);
        (trial.child, trial.told) = (None, false);
        trial.next = now + trial.wait.min(interval);
        trial.wait = (trial.wait * 2).min(interval);
        Some(None)
    }

    /// Tries where it is time; `process` is a service's ID and first process.
    pub(super) fn ask<'a>(
        &mut self,
        plan: &Plan,
        now: Time,
        process: impl Fn(usize) -> Option<(&'a str, i32)>,
    ) {
        for trial in self.0.iter_mut().filter(|trial| trial.next <= now) {
            trial.next = now + LIMIT;
            if let Some(child) = trial.child {
                // The first is passed on to what runs in the container.
                sys::kill(child, if trial.told { libc::SIGKILL } else { libc::SIGTERM });
                trial.told = true;
                continue;
            }
            let Some(ready) = &plan.services[trial.service].ready else { continue };
            let eager = std::mem::take(&mut trial.eager);
            trial.child = process(trial.service).and_then(|(id, pid)| begin(&ready.probe, eager, pid, id));
            if trial.child.is_none() {
                trial.next = now + ready.interval;
            }
        }
    }
}

/// Makes a child that ends well if the service is ready.
fn begin(probe: &Probe, eager: bool, pid: i32, id: &str) -> Option<i32> {
    if let Probe::Command(args) = probe {
        return container::exec_command(id, args).spawn().ok().map(|child| child.id() as i32);
    }
    let found = || match probe {
        Probe::Tcp(address) => {
            let hosts = fs::read_to_string(format!("/proc/{pid}/root/etc/hosts")).unwrap_or_default();
            let hosts = addresses(address.host(), &hosts);
            let connects =
                |host| TcpStream::connect_timeout(&(host, address.port()).into(), LIMIT / 4).is_ok();
            sys::enter_net(pid).is_ok() && again(eager, || hosts.iter().copied().any(connects))
        }
        // Links lead where the container sees them lead.
        Probe::File(path) => {
            rustix::process::chroot(format!("/proc/{pid}/root")).is_ok()
                && again(eager, || fs::symlink_metadata(Path::new("/").join(path)).is_ok())
        }
        Probe::Command(_) => false,
    };
    sys::fork(|| i32::from(!found())).ok()
}

/// Tries once, or for as long as the first child does.
fn again(eager: bool, mut found: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + EAGER;
    loop {
        if found() {
            return true;
        }
        if !eager || Instant::now() >= end {
            return false;
        }
        std::thread::sleep(EAGER_WAIT);
    }
}

/// What a host means, by the text of `/etc/hosts` (hosts(5)).
fn addresses(host: &str, hosts: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or(line));
    let named = lines.filter_map(|line| {
        let (address, names) = line.trim().split_once(char::is_whitespace)?;
        names.split_whitespace().any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    });
    let found: Vec<IpAddr> = named.filter_map(|address| address.parse().ok()).collect();
    match found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        true => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_child_tries_until_it_is_found() {
        let mut left = 3;
        let mut found = || {
            left -= 1;
            left == 0
        };
        assert!(!again(false, &mut found));
        assert!(again(true, &mut found));
        assert!(!again(true, || false));
    }

    #[test]
    fn a_host_is_an_address_or_a_name_in_the_file() {
        let hosts =
            "127.0.0.1\tlocalhost me # not this\n# 10.0.0.1 you\n10.0.0.2 you You2\n::1 localhost\nx y\n";
        let found = |host| addresses(host, hosts).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(found("10.1.2.3"), ["10.1.2.3"]);
        assert_eq!(found("::2"), ["::2"]);
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("you2"), ["10.0.0.2"]);
        assert!(found("not").is_empty() && found("y").is_empty());
        assert_eq!(addresses("localhost", "").len(), 2);
    }
}
