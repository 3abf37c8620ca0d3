//! The client as a pure state machine (RFC 2131 4.4, figure 5).
//!
//! ```text
//!            carrier, no lease
//!     Down ---------------------> Selecting --offer--> Requesting --ack--> Bound
//!      ^  \                          ^  ^                |  nak, silence     |  T1
//!      |   carrier, lease held       |  '----- Resting <-'                   v
//!      |    '--> Rebooting --nak-----+  (a while)                         Renewing --ack--> Bound
//!      |            '--ack, silence--|--> Bound                              |  T2
//!  carrier lost                      |                                       v
//!  (from anywhere; the lease is      '-- nak, end of lease -------------- Rebinding --ack--> Bound
//!  kept until its end)
//! ```
//!
//! - The first DISCOVER goes out in the moment the carrier is there; RFC 2131's random delay of one to ten seconds
//!   before it (4.4.1) would be most of a node's boot.
//! - It goes out before the kernel has looked at the carrier, which may take a second more ([`Event::Settled`]). Where
//!   it was lost for that, it is repeated as soon as the kernel has.
//! - The second DISCOVER follows after one second: the first frame after a carrier is the likeliest to be lost, while
//!   bridges and switches on the way find out about the link. From there on the waits are RFC 2131's (4.1).
//! - The first good offer is taken: waiting for a better one costs boot time, and nothing here could tell which
//!   is better.
//! - There is no ARP probe and no DECLINE: a probe by RFC 5227 takes two seconds or more of every boot, and
//!   servers ping an address before they offer it (RFC 2131 3.1).
//! - After a lost carrier the lease is confirmed (INIT-REBOOT); when no server answers it is used on (3.2).
//! - Nothing is released at the end: the node gets the same address when it is back.
//!
//! The shell calls [`Client::on`] for each event and does what it is told; [`Client::deadline`] says when to come
//! with [`Event::Tick`], and [`Client::listens`] which socket to have open meanwhile.

use std::mem;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::Lease;
use super::message::{MAX_MESSAGE, Message};
use super::option;
use super::reply::{self, Reply, Terms, kind};
use crate::clock::Time;

/// Wait for an answer to the first DISCOVER, up to half as long again.
const EARLY_WAIT: Duration = Duration::from_secs(1);
/// First wait for any other answer; each further one is twice as long (RFC 2131 4.1).
const FIRST_WAIT: Duration = Duration::from_secs(4);
/// Doublings before the wait stays at 64 seconds.
const MAX_DOUBLINGS: u32 = 4;
/// A REQUEST after an offer is sent this often: silence is noticed after one minute.
const REQUESTS: u32 = 4;
/// The question whether a lease held before is still good is asked this often.
const REBOOT_REQUESTS: u32 = 2;
/// Renewals wait for half of what is left, but not less than this (RFC 2131 4.4.5).
const SHORTEST_RENEWAL_WAIT: Duration = Duration::from_secs(60);

/// Who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The interface's hardware address; with its type in front it is the client identifier too.
    pub mac: [u8; 6],
    /// A name to tell the server, by which it may enter the node into its DNS.
    pub hostname: Option<String>,
    /// Whether to ask for a host name.
    pub wants_hostname: bool,
}

/// What happens to a client.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The link has a carrier now, or none.
    Carrier(bool),
    /// What was sent since the carrier came may have been dropped; from now on it is not.
    Settled,
    /// A message came in.
    Received(&'a Message),
    /// The deadline may have passed.
    Tick,
}

/// What a client wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send {
        /// Which way.
        to: To,
        /// What.
        message: Message,
    },
    /// The lease is new or has changed: make it so, and keep it.
    Configure(Lease),
    /// The lease is no more: undo it, and forget it.
    Deconfigure {
        /// What was held.
        lease: Lease,
        /// Why it is not any longer.
        why: Loss,
    },
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To everyone on the link, from no address (a raw frame).
    Link,
    /// To this server, from the leased address.
    Server(Ipv4Addr),
    /// To everyone on the link, from the leased address.
    Everyone,
}

/// Why a lease is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nobody extended it in time.
    Ended,
    /// A server said no.
    Refused {
        /// Which.
        server: Ipv4Addr,
        /// Its words.
        text: Option<String>,
    },
}

/// Which socket a client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// None: nothing is awaited.
    Nothing,
    /// A raw one on the link.
    Link,
    /// An UDP one on the leased address.
    Address(Ipv4Addr),
}

/// A client of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    identity: Identity,
    state: State,
    /// Refusals and silences after an offer, since the last lease.
    failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Down { held: Option<Lease> },
    Resting { until: Time },
    Selecting(Exchange),
    Requesting { exchange: Exchange, offer: Terms },
    Rebooting { exchange: Exchange, held: Lease },
    Bound(Lease),
    Renewing { exchange: Exchange, held: Lease },
    Rebinding { exchange: Exchange, held: Lease },
}

/// One question, asked until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchange {
    xid: u32,
    /// When the first one was sent.
    began: Time,
    /// Seconds from then to the last question; the REQUEST after an offer repeats the DISCOVER's (4.4.1).
    secs: u16,
    /// Questions sent.
    sent: u32,
    /// When the last one was.
    sent_at: Time,
    /// When the next one is due.
    again: Time,
}

impl Client {
    /// A client without carrier; `held` is a lease to confirm once there is one.
    #[must_use]
    pub fn new(identity: Identity, held: Option<Lease>) -> Self {
        Self { identity, state: State::Down { held }, failures: 0 }
    }

    /// A client that takes over a lease in force: the link has a carrier and the address.
    #[must_use]
    pub fn resume(identity: Identity, lease: Lease) -> Self {
        Self { identity, state: State::Bound(lease), failures: 0 }
    }

    /// The state's name, for people.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match self.state {
            State::Down { .. } => "no carrier",
            State::Resting { .. } => "resting after a refusal",
            State::Selecting(_) => "looking for a DHCP server",
            State::Requesting { .. } => "requesting the address offered",
            State::Rebooting { .. } => "confirming its lease",
            State::Bound(_) => "bound",
            State::Renewing { .. } => "renewing its lease",
            State::Rebinding { .. } => "asking any server to extend its lease",
        }
    }

    /// Questions of this exchange sent so far without an answer.
    #[must_use]
    pub fn unanswered(&self) -> u32 {
        self.exchange().map_or(0, |exchange| exchange.sent)
    }

    /// The lease held, whether or not it still has to be confirmed.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Down { held } => held.as_ref(),
            State::Bound(held)
            | State::Rebooting { held, .. }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => Some(held),
            State::Resting { .. } | State::Selecting(_) | State::Requesting { .. } => None,
        }
    }

    /// Whether it holds a lease that needs no confirmation first.
    #[must_use]
    pub fn holds_confirmed_lease(&self) -> bool {
        matches!(self.state, State::Bound(_) | State::Renewing { .. } | State::Rebinding { .. })
    }

    /// Which socket has to be open now. To be looked at after each [`Client::on`], before the actions are done.
    #[must_use]
    pub fn listens(&self) -> Listen {
        match &self.state {
            State::Down { .. } | State::Resting { .. } | State::Bound(_) => Listen::Nothing,
            State::Selecting(_) | State::Requesting { .. } | State::Rebooting { .. } => Listen::Link,
            State::Renewing { held, .. } | State::Rebinding { held, .. } => {
                Listen::Address(held.address.address())
            }
        }
    }

    /// When [`Event::Tick`] is due; none: only another event changes anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let end = |lease: &Lease| lease.term.map(|term| term.end);
        match &self.state {
            State::Down { held } => held.as_ref().and_then(end),
            State::Resting { until } => Some(*until),
            State::Selecting(exchange) | State::Requesting { exchange, .. } => Some(exchange.again),
            State::Bound(held) => held.term.map(|term| term.renew),
            State::Renewing { exchange, held } => {
                Some(held.term.map_or(exchange.again, |term| term.rebind.min(exchange.again)))
            }
            State::Rebooting { exchange, held } | State::Rebinding { exchange, held } => {
                Some(end(held).map_or(exchange.again, |end| end.min(exchange.again)))
            }
        }
    }

    /// Takes an event at its time; `random` gives fresh random bits. Gives what to do.
    ///
    /// Afterwards [`Client::deadline`] is later than `now`.
    pub fn on(&mut self, event: Event<'_>, now: Time, random: &mut dyn FnMut() -> u32) -> Vec<Action> {
        let mut step = Step { now, random, actions: Vec::new() };
        match event {
            Event::Carrier(up) => self.carrier(up, &mut step),
            Event::Settled => self.settled(now),
            Event::Received(message) => self.received(message, &mut step),
            Event::Tick => {}
        }
        // A state can be entered past its own deadline, such as Bound past T1: at most Rebooting -> Bound ->
        // Renewing -> Rebinding -> Selecting.
        while self.deadline().is_some_and(|due| due <= now) {
            self.overdue(&mut step);
        }
        step.actions
    }

    fn exchange(&self) -> Option<&Exchange> {
        match &self.state {
            State::Down { .. } | State::Resting { .. } | State::Bound(_) => None,
            State::Selecting(exchange)
            | State::Requesting { exchange, .. }
            | State::Rebooting { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. } => Some(exchange),
        }
    }

    fn take_state(&mut self) -> State {
        mem::replace(&mut self.state, State::Down { held: None })
    }

    fn carrier(&mut self, up: bool, step: &mut Step<'_>) {
        match (up, &self.state) {
            (true, State::Down { .. }) => {
                if let State::Down { held: Some(held) } = self.take_state() {
                    self.confirm(held, step);
                } else {
                    self.select(step);
                }
            }
            (false, _) => self.state = State::Down { held: self.lease().cloned() },
            (true, _) => {}
        }
    }

    /// The first question to anyone on the link, unanswered so far, is due again.
    fn settled(&mut self, now: Time) {
        if let State::Selecting(exchange) | State::Rebooting { exchange, .. } = &mut self.state
            && exchange.sent == 1
        {
            exchange.again = now;
        }
    }

    /// The deadline has passed.
    fn overdue(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        match self.take_state() {
            // Only a lease that ends gives this state a deadline.
            State::Down { held } => step.actions.extend(held.map(ended)),
            State::Resting { .. } => self.select(step),
            State::Selecting(mut exchange) => {
                step.discover(&self.identity, &mut exchange);
                self.state = State::Selecting(exchange);
            }
            State::Requesting { mut exchange, offer } => {
                if exchange.sent < REQUESTS {
                    step.request_offer(&self.identity, &mut exchange, &offer);
                    self.state = State::Requesting { exchange, offer };
                } else {
                    self.failures += 1;
                    self.select(step);
                }
            }
            State::Rebooting { mut exchange, held } => {
                if held.is_over(now) {
                    self.lose(held, Loss::Ended, step);
                } else if exchange.sent < REBOOT_REQUESTS {
                    step.request_same(&self.identity, &mut exchange, &held);
                    self.state = State::Rebooting { exchange, held };
                } else {
                    step.actions.push(Action::Configure(held.clone()));
                    self.state = State::Bound(held);
                }
            }
            State::Bound(held) => self.extend(held, step),
            State::Renewing { mut exchange, held } => {
                if held.term.is_some_and(|term| now >= term.rebind) {
                    self.extend(held, step);
                } else {
                    step.request_more(&self.identity, &mut exchange, &held, To::Server(held.server));
                    self.state = State::Renewing { exchange, held };
                }
            }
            State::Rebinding { mut exchange, held } => {
                if held.is_over(now) {
                    self.lose(held, Loss::Ended, step);
                } else {
                    step.request_more(&self.identity, &mut exchange, &held, To::Everyone);
                    self.state = State::Rebinding { exchange, held };
                }
            }
        }
    }

    fn received(&mut self, message: &Message, step: &mut Step<'_>) {
        let Some(exchange) = self.exchange().copied() else { return };
        if message.xid != exchange.xid || message.chaddr != self.identity.mac {
            return;
        }
        let Ok(reply) = reply::parse(message) else { return };
        // Only the server that was chosen may answer for it; anyone may once anyone is asked.
        let expected = match (&self.state, &reply) {
            (State::Selecting(_), Reply::Offer(_)) => true,
            (State::Requesting { offer, .. }, _) => speaks_for(&reply, Some(offer.server)),
            (State::Renewing { held, .. }, _) => speaks_for(&reply, Some(held.server)),
            (State::Rebooting { .. } | State::Rebinding { .. }, _) => speaks_for(&reply, None),
            _ => false,
        };
        if !expected {
            return;
        }
        match reply {
            Reply::Offer(offer) => {
                let mut exchange = Exchange { sent: 0, ..exchange };
                step.request_offer(&self.identity, &mut exchange, &offer);
                self.state = State::Requesting { exchange, offer };
            }
            Reply::Ack(terms) => {
                let lease = Lease::new(terms, exchange.sent_at, (step.random)());
                // A clock that stood still, or a lease shorter than its own round trip.
                if lease.is_over(step.now) {
                    return;
                }
                self.failures = 0;
                step.actions.push(Action::Configure(lease.clone()));
                self.state = State::Bound(lease);
            }
            Reply::Nak { server, text } => match self.lease().cloned() {
                Some(held) => self.lose(held, Loss::Refused { server, text }, step),
                None => {
                    let until = step.now + wait(self.failures, step.random);
                    self.failures += 1;
                    self.state = State::Resting { until };
                }
            },
        }
    }

    /// Gives the lease up and looks for another one at once.
    fn lose(&mut self, lease: Lease, why: Loss, step: &mut Step<'_>) {
        step.actions.push(Action::Deconfigure { lease, why });
        self.select(step);
    }

    fn select(&mut self, step: &mut Step<'_>) {
        let mut exchange = step.exchange();
        step.discover(&self.identity, &mut exchange);
        self.state = State::Selecting(exchange);
    }

    /// Begins to ask for more time, in the way that is due.
    fn extend(&mut self, held: Lease, step: &mut Step<'_>) {
        if held.is_over(step.now) {
            return self.lose(held, Loss::Ended, step);
        }
        let mut exchange = step.exchange();
        self.state = if held.term.is_some_and(|term| step.now >= term.rebind) {
            step.request_more(&self.identity, &mut exchange, &held, To::Everyone);
            State::Rebinding { exchange, held }
        } else {
            step.request_more(&self.identity, &mut exchange, &held, To::Server(held.server));
            State::Renewing { exchange, held }
        };
    }

    fn confirm(&mut self, held: Lease, step: &mut Step<'_>) {
        if held.is_over(step.now) {
            return self.lose(held, Loss::Ended, step);
        }
        let mut exchange = step.exchange();
        step.request_same(&self.identity, &mut exchange, &held);
        self.state = State::Rebooting { exchange, held };
    }
}

fn ended(lease: Lease) -> Action {
    Action::Deconfigure { lease, why: Loss::Ended }
}

/// Whether this is a yes or a no, by the given server if one is given.
fn speaks_for(reply: &Reply, expected: Option<Ipv4Addr>) -> bool {
    let server = match reply {
        Reply::Offer(_) => return false,
        Reply::Ack(terms) => terms.server,
        Reply::Nak { server, .. } => *server,
    };
    expected.is_none_or(|expected| expected == server)
}

/// 4, 8, 16, 32, 64, 64, .. seconds, each up to one second more or less (RFC 2131 4.1).
fn wait(doublings: u32, random: &mut dyn FnMut() -> u32) -> Duration {
    let jitter = Duration::from_millis((random() % 2001).into());
    FIRST_WAIT * (1 << doublings.min(MAX_DOUBLINGS)) + jitter - Duration::from_secs(1)
}

/// One call of [`Client::on`]: when it is, where random bits come from, what has been decided.
struct Step<'a> {
    now: Time,
    random: &'a mut dyn FnMut() -> u32,
    actions: Vec<Action>,
}

impl Step<'_> {
    fn exchange(&mut self) -> Exchange {
        let now = self.now;
        Exchange { xid: (self.random)(), began: now, secs: 0, sent: 0, sent_at: now, again: now }
    }

    fn message(&self, identity: &Identity, exchange: &Exchange, kind: u8) -> Message {
        let mut message = Message::request(exchange.xid, identity.mac);
        message.secs = exchange.secs;
        // RFC 3442: classless routes are asked for before routers.
        let mut wanted = vec![option::SUBNET_MASK, option::CLASSLESS_ROUTES, option::ROUTERS, option::DNS];
        wanted.extend([option::DOMAIN, option::SEARCH, option::MTU]);
        wanted.extend([option::RENEWAL_TIME, option::REBINDING_TIME]);
        if identity.wants_hostname {
            wanted.push(option::HOSTNAME);
        }
        let mut client_id = vec![1];
        client_id.extend(identity.mac);
        message.options.extend([
            (option::MESSAGE_TYPE, vec![kind]),
            (option::CLIENT_ID, client_id),
            (option::MAX_SIZE, (MAX_MESSAGE as u16).to_be_bytes().to_vec()),
            (option::PARAMETERS, wanted),
        ]);
        if let Some(hostname) = &identity.hostname {
            message.options.insert(option::HOSTNAME, hostname.clone().into_bytes());
        }
        message
    }

    fn send(&mut self, exchange: &mut Exchange, to: To, message: Message, wait: Duration) {
        exchange.sent += 1;
        exchange.sent_at = self.now;
        exchange.again = self.now + wait;
        self.actions.push(Action::Send { to, message });
    }

    fn discover(&mut self, identity: &Identity, exchange: &mut Exchange) {
        exchange.secs = u16::try_from((self.now - exchange.began).as_secs()).unwrap_or(u16::MAX);
        let message = self.message(identity, exchange, kind::DISCOVER);
        let wait = match exchange.sent.checked_sub(1) {
            None => EARLY_WAIT + Duration::from_millis(((self.random)() % 501).into()),
            Some(doublings) => wait(doublings, self.random),
        };
        self.send(exchange, To::Link, message, wait);
    }

    /// SELECTING: takes an offer.
    fn request_offer(&mut self, identity: &Identity, exchange: &mut Exchange, offer: &Terms) {
        let mut message = self.message(identity, exchange, kind::REQUEST);
        message.options.extend([
            (option::REQUESTED_ADDRESS, offer.address.address().octets().to_vec()),
            (option::SERVER, offer.server.octets().to_vec()),
        ]);
        let wait = wait(exchange.sent, self.random);
        self.send(exchange, To::Link, message, wait);
    }

    /// INIT-REBOOT: is this address still mine on this link?
    fn request_same(&mut self, identity: &Identity, exchange: &mut Exchange, held: &Lease) {
        let mut message = self.message(identity, exchange, kind::REQUEST);
        message.options.insert(option::REQUESTED_ADDRESS, held.address.address().octets().to_vec());
        let wait = wait(exchange.sent, self.random);
        self.send(exchange, To::Link, message, wait);
    }

    /// RENEWING and REBINDING: more time for this address, please.
    fn request_more(&mut self, identity: &Identity, exchange: &mut Exchange, held: &Lease, to: To) {
        let mut message = self.message(identity, exchange, kind::REQUEST);
        message.ciaddr = held.address.address();
        let limit = held.term.map(|term| if to == To::Everyone { term.end } else { term.rebind });
        let left = limit.map_or(Duration::ZERO, |limit| limit - self.now);
        self.send(exchange, to, message, (left / 2).max(SHORTEST_RENEWAL_WAIT));
    }
}

#[cfg(test)]
mod tests;
