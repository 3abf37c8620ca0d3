//! `kit-net up`: the shell. It owns every descriptor, waits in one `poll`, and does what the pure parts decide.
//!
//! ```text
//! poll { signals, news of links, timer, each client's socket }
//!    news     -> adopt a new link | tell its client of the carrier | forget a link
//!    timer    -> tick every client whose deadline has passed
//!    socket   -> decode, give to the client
//!    client's actions -> send | configure (plan, netlink) + keep the lease + resolv.conf
//! ```
//!
//! The form at boot ([`Form::Once`]) ends as soon as [`wait::verdict`] says so; the service ([`Form::Service`]) ends
//! on SIGTERM, and releases nothing. Neither polls: carrier and new interfaces are told by netlink, and the timer runs
//! on the clock that goes on during suspend.
//!
//! One interface's failure is reported and remembered, and the others go on.

mod host;
mod interface;
mod log;
pub mod wait;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use thiserror::Error;

use crate::clock::Time;
use crate::cmdline::{self, CmdlineError};
use crate::config::{self, ConfigError, Hostname, Rule};
use crate::dhcp::client::{Action, Event, Identity, Loss};
use crate::dhcp::lease::Lease;
use crate::ipv4::Cidr;
use crate::netlink::link::Link;
use crate::netlink::route::Route;
use crate::netlink::socket::{self, Events, Netlink, News};
use crate::plan::{self, Observed, Step};
use crate::resolv::{self, Source};
use crate::select;
use crate::store::Store;
use crate::sys;
use host::{device, name_to_tell, random, set_hostname};
use interface::Interface;
use log::{Chain, Granted, say};
use wait::{NotReady, Standing, Verdict};

/// Where things are, and how long to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long to stay.
    pub form: Form,
    /// The configuration; none: the usual place, where it need not be.
    pub config: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: PathBuf,
    /// The directory of leases.
    pub state: PathBuf,
    /// The file for name servers.
    pub resolv_conf: PathBuf,
}

/// How long to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Until the network is there, but not longer than this.
    Once {
        /// The longest wait.
        timeout: Duration,
    },
    /// Until SIGTERM.
    Service,
}

/// Where the configuration usually is.
pub const USUAL_CONFIG: &str = "/etc/kit/net.json";

/// Messages read from one socket before others get a turn.
const MESSAGES_A_TURN: usize = 32;

/// Why there is no network.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error("read {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: ConfigError,
    },
    /// An `ip=` is wrong.
    #[error("read the kernel's command line")]
    Cmdline {
        /// How.
        #[source]
        source: CmdlineError,
    },
    /// The kernel does not list its interfaces.
    #[error("look at the network interfaces")]
    Netlink {
        /// Why.
        #[source]
        source: socket::Error,
    },
    /// No signals, no timer, no poll.
    #[error("{what}")]
    Wait {
        /// The call.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No socket for a client.
    #[error("{interface}: open a socket for DHCP")]
    Socket {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No address within the time.
    #[error(transparent)]
    NotReady(NotReady),
    /// A signal came first.
    #[error("stopped by a signal before an interface had an address")]
    Stopped,
}

/// Runs until the form's end.
///
/// # Errors
/// When the network is not there in time, or never can be.
pub fn run(options: &Options) -> Result<(), Error> {
    let rules = rules(options)?;
    let mut up = Up::new(options, rules)?;
    up.relist()?;
    up.serve()
}

/// What the command line says, else the file, else DHCP everywhere.
fn rules(options: &Options) -> Result<Vec<Rule>, Error> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
    };
    let cmdline = read(&options.cmdline)?;
    if let Some(rules) = cmdline::parse(&cmdline).map_err(|source| Error::Cmdline { source })? {
        return Ok(rules);
    }
    let path = options.config.clone().unwrap_or_else(|| USUAL_CONFIG.into());
    let text = match read(&path) {
        Err(Error::Read { source, .. })
            if options.config.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(vec![Rule::dhcp_everywhere()]);
        }
        text => text?,
    };
    config::parse(&text).map_err(|source| Error::Config { path, source })
}

struct Up {
    form: Form,
    started: Time,
    rules: Vec<Rule>,
    interfaces: BTreeMap<u32, Interface>,
    netlink: Netlink,
    events: Events,
    timer: OwnedFd,
    signals: OwnedFd,
    store: Store,
    resolv_conf: PathBuf,
}

/// What poll found.
#[derive(Clone, Copy)]
enum Ready {
    Signal,
    News,
    Timer,
    Socket(u32),
}

impl Up {
    fn new(options: &Options, rules: Vec<Rule>) -> Result<Self, Error> {
        let wait = |what| move |source| Error::Wait { what, source };
        let netlink = |source| Error::Netlink { source };
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)
            .map_err(|e| wait("make a timer")(e.into()))?;
        Ok(Self {
            form: options.form,
            started: Time::now(),
            rules,
            interfaces: BTreeMap::new(),
            // Before the first listing: what changes after it is news.
            events: Events::open().map_err(netlink)?,
            netlink: Netlink::open().map_err(netlink)?,
            timer,
            signals: sys::termination_signals().map_err(wait("take signals"))?,
            store: Store::new(&options.state, Store::boot_id()),
            resolv_conf: options.resolv_conf.clone(),
        })
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            let limit = match self.verdict() {
                Some(Verdict::Ready) => return Ok(()),
                Some(Verdict::Failed(why)) => return Err(Error::NotReady(why)),
                Some(Verdict::Wait { until }) => Some(until),
                None => None,
            };
            let deadlines = self.interfaces.values().filter_map(|i| i.client.as_ref()?.deadline());
            self.set_timer(deadlines.chain(limit).min())?;
            for ready in self.poll()? {
                match ready {
                    Ready::Signal if self.form == Form::Service => return Ok(()),
                    Ready::Signal => return Err(Error::Stopped),
                    Ready::News => self.news()?,
                    Ready::Timer => self.tick()?,
                    Ready::Socket(index) => self.receive(index)?,
                }
            }
        }
    }

    /// Whether the form at boot is at its end; none for the service, which has no end.
    fn verdict(&self) -> Option<Verdict> {
        let Form::Once { timeout } = self.form else { return None };
        let used = |i: usize| self.interfaces.values().any(|interface| interface.rule == i);
        let unmatched = (0..self.rules.len()).filter(|i| self.rules[*i].required && !used(*i)).count();
        let standings: Vec<Standing> = self
            .interfaces
            .values()
            .filter(|interface| self.rules[interface.rule].wants_address())
            .map(|interface| Standing {
                name: interface.link.name.clone(),
                required: self.rules[interface.rule].required,
                addressed: interface.addressed(&self.rules[interface.rule]),
                why: interface.why(),
            })
            .collect();
        let wanted = self.rules.iter().any(Rule::wants_address);
        Some(wait::verdict(wanted, &standings, unmatched, self.started, timeout, Time::now()))
    }

    /// None: never.
    fn set_timer(&self, at: Option<Time>) -> Result<(), Error> {
        // A time of zero would switch the timer off.
        let millis = at.map_or(0, |at| at.as_millis().max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: (millis % 1000) as i64 * 1_000_000,
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })
            .map_err(|e| Error::Wait { what: "set the timer", source: e.into() })?;
        Ok(())
    }

    fn poll(&self) -> Result<Vec<Ready>, Error> {
        let mut sources = vec![
            (Ready::Signal, self.signals.as_fd()),
            (Ready::News, self.events.as_fd()),
            (Ready::Timer, self.timer.as_fd()),
        ];
        let sockets = self.interfaces.iter().filter_map(|(index, i)| Some((*index, i.socket()?)));
        sources.extend(sockets.map(|(index, fd): (u32, BorrowedFd<'_>)| (Ready::Socket(index), fd)));
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        loop {
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::Wait { what: "wait", source: e.into() }),
            }
        }
        let found = sources.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(found.map(|((ready, _), _)| *ready).collect())
    }

    fn news(&mut self) -> Result<(), Error> {
        for news in self.events.read().map_err(|source| Error::Netlink { source })? {
            match news {
                News::Link(link) => self.see(link)?,
                News::Gone { index } => self.forget(index),
                News::Missed => self.relist()?,
            }
        }
        Ok(())
    }

    /// Looks at every link there is.
    fn relist(&mut self) -> Result<(), Error> {
        let links = self.netlink.links().map_err(|source| Error::Netlink { source })?;
        let gone: Vec<u32> =
            self.interfaces.keys().copied().filter(|index| links.iter().all(|l| l.index != *index)).collect();
        for index in gone {
            self.forget(index);
        }
        for link in links {
            self.see(link)?;
        }
        Ok(())
    }

    /// A link is there, like this.
    fn see(&mut self, link: Link) -> Result<(), Error> {
        let index = link.index;
        let Some(known) = self.interfaces.get_mut(&index) else { return self.adopt(link) };
        if link.enslaved || link.mac != known.link.mac {
            self.forget(index);
            return self.adopt(link);
        }
        let (up, carrier) = (link.up && !known.link.up, link.carrier);
        let settled = link.settled && !known.link.settled;
        known.link = link;
        if up {
            // Switching a link off has taken its routes away.
            self.configure(index, None);
        }
        match self.interfaces.get(&index) {
            Some(known) if known.carrier != carrier => self.carrier(index, carrier),
            Some(_) if settled => self.feed(index, Event::Settled),
            _ => Ok(()),
        }
    }

    /// Takes a link in hand if a rule matches it.
    fn adopt(&mut self, link: Link) -> Result<(), Error> {
        let (index, name, mac, carrier) = (link.index, link.name.clone(), link.mac, link.carrier);
        let Some(rule_index) = select::rule_for(&self.rules, &link, &device(&name)) else { return Ok(()) };
        let rule = self.rules[rule_index].clone();
        if rule.first_only && self.interfaces.values().any(|i| i.rule == rule_index) {
            return Ok(());
        }
        let (up, mtu) = (link.up, link.mtu);
        self.interfaces.insert(index, Interface::new(link, rule_index));
        if let Some(mtu) = rule.mtu.filter(|wanted| *wanted != mtu) {
            self.execute(index, &Step::SetMtu(mtu));
        }
        if !up {
            self.execute(index, &Step::SwitchOn);
        }
        if let Hostname::Set(wanted) = &rule.hostname {
            set_hostname(&name, wanted);
        }

        let stored = mac.and_then(|mac| self.stored_lease(&name, mac));
        // A rule that has no DHCP any more takes back what an earlier one got.
        let (held, stale) = if rule.dhcp { (stored, None) } else { (None, stored) };
        let mut has_address = |lease: &Lease| self.addresses(index).contains(&lease.address);
        let in_force = carrier && held.as_ref().is_some_and(&mut has_address);
        if let Some(interface) = self.interfaces.get_mut(&index).filter(|_| in_force) {
            interface.lease.clone_from(&held);
        }
        if !rule.addresses.is_empty() || in_force || stale.is_some() {
            self.configure(index, stale.as_ref());
        }
        if stale.is_some() {
            self.forget_lease(&name);
        }
        if rule.dhcp {
            match mac {
                Some(mac) => {
                    let wants_hostname = rule.hostname == Hostname::FromDhcp;
                    self.start_client(
                        index,
                        Identity { mac, hostname: name_to_tell(wants_hostname), wants_hostname },
                        held,
                        in_force,
                    )?;
                }
                None => self.trouble(index, "no Ethernet address, so no DHCP".into()),
            }
        }
        self.write_resolv_conf();
        Ok(())
    }

    /// The lease that a predecessor left.
    fn stored_lease(&self, name: &str, mac: [u8; 6]) -> Option<Lease> {
        self.store.load(name, mac, Time::now()).unwrap_or_else(|e| {
            say(name, format_args!("{}; looking for a new lease", Chain(&e)));
            None
        })
    }

    fn start_client(
        &mut self,
        index: u32,
        identity: Identity,
        held: Option<Lease>,
        in_force: bool,
    ) -> Result<(), Error> {
        let Some(interface) = self.interfaces.get_mut(&index) else { return Ok(()) };
        interface.start_client(identity, held, in_force);
        if let (true, Some(lease)) = (in_force, &interface.lease) {
            say(&interface.link.name, format_args!("takes over {}", Granted(lease)));
        }
        let carrier = interface.link.carrier;
        if in_force {
            self.feed(index, Event::Tick)
        } else if carrier {
            self.carrier(index, true)
        } else {
            Ok(())
        }
    }

    /// A link is gone, or no longer ours.
    fn forget(&mut self, index: u32) {
        let Some(interface) = self.interfaces.remove(&index) else { return };
        say(&interface.link.name, "gone");
        self.forget_lease(&interface.link.name);
        self.write_resolv_conf();
    }

    fn carrier(&mut self, index: u32, carrier: bool) -> Result<(), Error> {
        let Some(interface) = self.interfaces.get_mut(&index) else { return Ok(()) };
        interface.carrier = carrier;
        say(&interface.link.name, if carrier { "carrier" } else { "no carrier" });
        self.feed(index, Event::Carrier(carrier))
    }

    fn tick(&mut self) -> Result<(), Error> {
        let indices: Vec<u32> = self.interfaces.keys().copied().collect();
        // A client before its deadline takes a tick for nothing.
        indices.into_iter().try_for_each(|index| self.feed(index, Event::Tick))
    }

    fn receive(&mut self, index: u32) -> Result<(), Error> {
        for _ in 0..MESSAGES_A_TURN {
            match self.interfaces.get(&index).map(Interface::receive) {
                Some(interface::Received::Message(message)) => self.feed(index, Event::Received(&message))?,
                Some(interface::Received::Useless) => {}
                Some(interface::Received::Nothing) | None => break,
            }
        }
        Ok(())
    }

    /// Gives an event to a client and does what it says.
    fn feed(&mut self, index: u32, event: Event<'_>) -> Result<(), Error> {
        let Some(interface) = self.interfaces.get_mut(&index) else { return Ok(()) };
        let Some(client) = &mut interface.client else { return Ok(()) };
        let actions = client.on(event, Time::now(), &mut random);
        let listens = client.listens();
        // What is configured first, so that a socket can be bound to a new address.
        for action in actions {
            match action {
                Action::Send { to, message } => {
                    let Some(interface) = self.interfaces.get_mut(&index) else { return Ok(()) };
                    interface.listen(listens)?;
                    interface.send(to, &message);
                }
                Action::Configure(lease) => self.bound(index, lease),
                Action::Deconfigure { lease, why } => self.lost(index, &lease, &why),
            }
        }
        self.interfaces.get_mut(&index).map_or(Ok(()), |interface| interface.listen(listens))
    }

    fn bound(&mut self, index: u32, lease: Lease) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let (name, mac) = (interface.link.name.clone(), interface.link.mac);
        let rule = &self.rules[interface.rule];
        if let (Hostname::FromDhcp, Some(wanted)) = (&rule.hostname, &lease.hostname) {
            set_hostname(&name, wanted);
        }
        let previous = interface.lease.replace(lease.clone());
        let renewed = previous.as_ref().is_some_and(|old| old.address == lease.address);
        say(&name, format_args!("{} {}", if renewed { "keeps" } else { "has" }, Granted(&lease)));
        self.configure(index, previous.as_ref());
        if let Some(Err(e)) = mac.map(|mac| self.store.save(&name, mac, &lease)) {
            say(&name, Chain(&e));
        }
        self.write_resolv_conf();
    }

    fn lost(&mut self, index: u32, lease: &Lease, why: &Loss) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let name = interface.link.name.clone();
        match why {
            Loss::Ended => say(&name, format_args!("loses {}: its time is over", lease.address)),
            Loss::Refused { server, text } => {
                let text = text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
                say(&name, format_args!("loses {}: {server} refuses it{text}", lease.address));
            }
        }
        interface.lease = None;
        self.configure(index, Some(lease));
        self.forget_lease(&name);
        self.write_resolv_conf();
    }

    fn forget_lease(&self, name: &str) {
        if let Err(e) = self.store.remove(name) {
            say(name, Chain(&e));
        }
    }

    /// An interface's addresses; what cannot be listed is taken as not there, and then is not taken away.
    fn addresses(&mut self, index: u32) -> Vec<Cidr> {
        let all = self.netlink.addresses().unwrap_or_else(|e| {
            say("netlink", Chain(&e));
            Vec::new()
        });
        all.into_iter().filter(|a| a.index == index).map(|a| a.address).collect()
    }

    /// The routes through an interface, likewise.
    fn routes(&mut self, index: u32) -> Vec<Route> {
        let all = self.netlink.routes().unwrap_or_else(|e| {
            say("netlink", Chain(&e));
            Vec::new()
        });
        all.into_iter().filter(|(i, _)| *i == index).map(|(_, route)| route).collect()
    }

    /// Makes an interface what its rule and its lease say; `previous` is the lease before.
    fn configure(&mut self, index: u32, previous: Option<&Lease>) {
        let (addresses, routes) = (self.addresses(index), self.routes(index));
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let observed = Observed {
            mtu: interface.link.mtu,
            addresses,
            routes,
            leased: previous.map(|lease| lease.address),
        };
        let rule = &self.rules[interface.rule];
        let desired = plan::desired(index, rule, interface.lease.as_ref(), Time::now());
        interface.trouble = None;
        let mut addressed = !desired.addresses.is_empty();
        for step in plan::steps(&observed, &desired) {
            let done = self.execute(index, &step);
            addressed &= done || !matches!(step, Step::SetAddress(..));
        }
        if let Some(interface) = self.interfaces.get_mut(&index) {
            interface.configured = addressed;
        }
    }

    /// Makes a change; says so when the kernel will not.
    fn execute(&mut self, index: u32, step: &Step) -> bool {
        match self.netlink.execute(&step.to_string(), &step.request(index)) {
            Ok(()) => true,
            // What is to go may have gone with something else: routes go with their address.
            Err(e) if step.removes() && (e.is(Errno::SRCH) || e.is(Errno::ADDRNOTAVAIL)) => true,
            Err(e) => {
                self.trouble(index, Chain(&e).to_string());
                false
            }
        }
    }

    fn trouble(&mut self, index: u32, text: String) {
        if let Some(interface) = self.interfaces.get_mut(&index) {
            say(&interface.link.name, &text);
            interface.trouble = Some(text);
        }
    }

    fn write_resolv_conf(&self) {
        let source = |interface: &Interface| {
            let rule = &self.rules[interface.rule];
            let mut source = Source { dns: rule.dns.clone(), search: rule.search.clone() };
            if let Some(lease) = &interface.lease {
                source.dns.extend(lease.dns.iter().copied().map(IpAddr::V4));
                source.search.extend(lease.search.iter().cloned());
            }
            source
        };
        let sources: Vec<Source> = self.interfaces.values().map(source).collect();
        if let Err(e) = resolv::update(&self.resolv_conf, &sources) {
            say("resolv.conf", Chain(&e));
        }
    }
}
