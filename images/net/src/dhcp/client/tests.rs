use super::*;
use crate::dhcp::message::Options;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn identity() -> Identity {
    Identity { mac: MAC, hostname: None, wants_hostname: false }
}

fn at(secs: u64) -> Time {
    Time::from_millis(secs * 1000)
}

/// A client with its clock, and random bits that count up.
struct Run {
    client: Client,
    now: Time,
    count: u32,
}

impl Run {
    fn new(client: Client) -> Self {
        Self { client, now: at(100), count: 0 }
    }

    fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        let count = &mut self.count;
        self.client.on(event, self.now, &mut || {
            *count += 1;
            *count
        })
    }

    /// Jumps to the deadline.
    fn tick(&mut self) -> Vec<Action> {
        self.now = self.client.deadline().expect("a deadline");
        self.on(Event::Tick)
    }

    /// To the state Bound, with a lease of this many seconds.
    fn bound(secs: u32) -> Self {
        let mut run = Self::new(Client::new(identity(), None));
        let discover = sent(&run.on(Event::Carrier(true)));
        let request = sent(&run.on(Event::Received(&answer(&discover, kind::OFFER, secs))));
        let actions = run.on(Event::Received(&answer(&request, kind::ACK, secs)));
        assert!(matches!(actions[..], [Action::Configure(_)]), "{actions:?}");
        run
    }
}

/// The only action, which is to send.
fn sent(actions: &[Action]) -> Message {
    match actions {
        [Action::Send { message, .. }] => message.clone(),
        other => panic!("not one message: {other:?}"),
    }
}

fn kind_of(message: &Message) -> u8 {
    message.options[&option::MESSAGE_TYPE][0]
}

/// What a server would say.
fn answer(request: &Message, kind: u8, secs: u32) -> Message {
    let mut message = Message::reply(request);
    message.options =
        Options::from([(option::MESSAGE_TYPE, vec![kind]), (option::SERVER, SERVER.octets().to_vec())]);
    if kind != kind::NAK {
        message.yiaddr = Ipv4Addr::new(10, 0, 0, 5);
        message.options.insert(option::SUBNET_MASK, vec![255, 255, 255, 0]);
        message.options.insert(option::LEASE_TIME, secs.to_be_bytes().to_vec());
    }
    message
}

#[test]
fn the_first_discover_goes_out_with_the_carrier() {
    let mut run = Run::new(Client::new(identity(), None));
    assert_eq!(run.on(Event::Tick), []);
    assert_eq!(run.client.deadline(), None);
    let message = sent(&run.on(Event::Carrier(true)));
    assert_eq!((kind_of(&message), message.secs, message.flags), (kind::DISCOVER, 0, 0));
    assert_eq!(run.client.listens(), Listen::Link);
}

#[test]
fn what_may_have_been_dropped_is_repeated_once() {
    let mut run = Run::new(Client::new(identity(), None));
    assert_eq!(run.on(Event::Settled), []);
    let first = sent(&run.on(Event::Carrier(true)));
    run.now = run.now + Duration::from_millis(5);
    let again = sent(&run.on(Event::Settled));
    assert_eq!((kind_of(&again), again.xid), (kind::DISCOVER, first.xid));
    assert_eq!(run.on(Event::Settled), []);
    let request = sent(&run.on(Event::Received(&answer(&first, kind::OFFER, 60))));
    assert_eq!(run.on(Event::Settled), [], "an answer shows that the link sends");
    run.on(Event::Received(&answer(&request, kind::ACK, 60)));
    assert_eq!(run.on(Event::Settled), []);
    run.on(Event::Carrier(false));
    run.on(Event::Carrier(true));
    assert_eq!(kind_of(&sent(&run.on(Event::Settled))), kind::REQUEST);
}

#[test]
fn a_lease_takes_two_round_trips() {
    let mut run = Run::new(Client::new(identity(), None));
    let discover = sent(&run.on(Event::Carrier(true)));
    let request = sent(&run.on(Event::Received(&answer(&discover, kind::OFFER, 60))));
    assert_eq!(kind_of(&request), kind::REQUEST);
    assert_eq!((request.xid, request.secs), (discover.xid, discover.secs));
    assert_eq!(request.options[&option::REQUESTED_ADDRESS], [10, 0, 0, 5]);
    assert_eq!(request.options[&option::SERVER], SERVER.octets());
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    let actions = run.on(Event::Received(&answer(&request, kind::ACK, 60)));
    let [Action::Configure(lease)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(lease.address.to_string(), "10.0.0.5/24");
    assert_eq!(lease.left(run.now), Some(Duration::from_secs(60)));
    assert_eq!((run.client.phase(), run.client.listens()), ("bound", Listen::Nothing));
}

#[test]
fn unanswered_questions_wait_longer_each_time() {
    let mut run = Run::new(Client::new(identity(), None));
    let first = sent(&run.on(Event::Carrier(true)));
    let mut waits = Vec::new();
    for _ in 0..7 {
        let before = run.now;
        let again = sent(&run.tick());
        assert_eq!(again.xid, first.xid);
        waits.push((run.now - before).as_millis());
    }
    assert!((1000..=1500).contains(&waits[0]), "{waits:?}");
    for (wait, base) in waits[1..].iter().zip([4000, 8000, 16_000, 32_000, 64_000, 64_000]) {
        assert!((base - 1000..=base + 1000).contains(wait), "{waits:?}");
    }
    let last = sent(&run.tick());
    assert_eq!(u64::from(last.secs), (run.now - at(100)).as_secs());
}

#[test]
fn an_offer_that_is_not_honoured_is_given_up_after_a_minute() {
    let mut run = Run::new(Client::new(identity(), None));
    let discover = sent(&run.on(Event::Carrier(true)));
    run.on(Event::Received(&answer(&discover, kind::OFFER, 60)));
    let kinds: Vec<u8> = (0..4).map(|_| kind_of(&sent(&run.tick()))).collect();
    assert_eq!(kinds, [kind::REQUEST, kind::REQUEST, kind::REQUEST, kind::DISCOVER]);
    assert!((56..=64).contains(&(run.now - at(100)).as_secs()));
}

#[test]
fn answers_to_others_and_by_others_are_not_heard() {
    let mut run = Run::new(Client::new(identity(), None));
    let discover = sent(&run.on(Event::Carrier(true)));
    let good = answer(&discover, kind::OFFER, 60);
    let mut other_xid = good.clone();
    other_xid.xid += 1;
    let mut other_mac = good.clone();
    other_mac.chaddr[5] += 1;
    let mut own = good.clone();
    own.op = crate::dhcp::message::Op::Request;
    for bad in [other_xid, other_mac, own, answer(&discover, kind::ACK, 60), answer(&discover, kind::NAK, 0)]
    {
        assert_eq!(run.on(Event::Received(&bad)), []);
    }
    run.on(Event::Received(&good));
    for kind in [kind::ACK, kind::NAK] {
        let mut other_server = answer(&discover, kind, 60);
        other_server.options.insert(option::SERVER, vec![10, 0, 0, 66]);
        assert_eq!(run.on(Event::Received(&other_server)), []);
    }
    assert_eq!(run.client.phase(), "requesting the address offered");
}

#[test]
fn a_refusal_after_an_offer_is_followed_by_a_rest() {
    let mut run = Run::new(Client::new(identity(), None));
    let mut discover = sent(&run.on(Event::Carrier(true)));
    for low in [3000, 7000, 15_000] {
        let request = sent(&run.on(Event::Received(&answer(&discover, kind::OFFER, 60))));
        assert_eq!(run.on(Event::Received(&answer(&request, kind::NAK, 0))), []);
        assert_eq!(run.client.listens(), Listen::Nothing);
        let before = run.now;
        discover = sent(&run.tick());
        assert!((run.now - before).as_millis() >= low);
        assert_ne!(discover.xid, request.xid);
    }
}

#[test]
fn the_lease_is_renewed_with_its_server_at_t1() {
    let mut run = Run::bound(3600);
    let actions = run.tick();
    assert!((1680..=1800).contains(&(run.now - at(100)).as_secs()));
    let [Action::Send { to: To::Server(SERVER), message }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(message.ciaddr, Ipv4Addr::new(10, 0, 0, 5));
    assert!(!message.options.contains_key(&option::SERVER));
    assert!(!message.options.contains_key(&option::REQUESTED_ADDRESS));
    assert_eq!(run.client.listens(), Listen::Address(message.ciaddr));
    let actions = run.on(Event::Received(&answer(message, kind::ACK, 3600)));
    let [Action::Configure(lease)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(lease.left(run.now), Some(Duration::from_secs(3600)));
}

#[test]
fn unanswered_renewals_halve_the_wait_then_any_server_is_asked_then_the_lease_ends() {
    let mut run = Run::bound(3600);
    let mut asked = Vec::new();
    let lost = loop {
        let actions = run.tick();
        match &actions[..] {
            [Action::Send { to, .. }] => asked.push(((run.now - at(100)).as_secs(), *to)),
            _ => break actions,
        }
    };
    let waits: Vec<u64> = asked.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(waits.windows(2).take(3).all(|pair| pair[1] < pair[0]), "{asked:?}");
    let rebind = asked.iter().position(|(_, to)| *to == To::Everyone).unwrap();
    assert_eq!(asked[rebind].0, 3150);
    assert!(asked[rebind..].iter().all(|(_, to)| *to == To::Everyone));
    let [Action::Deconfigure { why: Loss::Ended, .. }, Action::Send { to: To::Link, message }] = &lost[..]
    else {
        panic!("{lost:?}")
    };
    assert_eq!(kind_of(message), kind::DISCOVER);
    assert_eq!((run.now - at(100)).as_secs(), 3600);
}

#[test]
fn a_refused_renewal_loses_the_lease_and_looks_for_another_at_once() {
    let mut run = Run::bound(3600);
    let request = sent(&run.tick());
    let actions = run.on(Event::Received(&answer(&request, kind::NAK, 0)));
    assert!(
        matches!(&actions[..], [Action::Deconfigure { why: Loss::Refused { .. }, .. }, Action::Send { .. }]),
        "{actions:?}"
    );
    assert_eq!(run.client.lease(), None);
}

#[test]
fn a_lease_without_end_is_never_renewed() {
    let run = Run::bound(u32::MAX);
    assert_eq!(run.client.deadline(), None);
}

#[test]
fn after_a_lost_carrier_the_lease_is_confirmed() {
    let mut run = Run::bound(3600);
    assert_eq!(run.on(Event::Carrier(false)), []);
    assert!(run.client.lease().is_some());
    run.now = at(200);
    let request = sent(&run.on(Event::Carrier(true)));
    assert_eq!(kind_of(&request), kind::REQUEST);
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(request.options[&option::REQUESTED_ADDRESS], [10, 0, 0, 5]);
    assert!(!request.options.contains_key(&option::SERVER));
    let actions = run.on(Event::Received(&answer(&request, kind::ACK, 3600)));
    assert!(matches!(actions[..], [Action::Configure(_)]));
}

#[test]
fn a_lease_that_nobody_denies_is_used_on() {
    let mut run = Run::bound(3600);
    run.on(Event::Carrier(false));
    run.on(Event::Carrier(true));
    sent(&run.tick());
    let actions = run.tick();
    assert!(matches!(actions[..], [Action::Configure(_)]), "{actions:?}");
    assert_eq!(run.client.phase(), "bound");
}

#[test]
fn a_lease_refused_on_the_new_link_is_undone() {
    let mut run = Run::bound(3600);
    run.on(Event::Carrier(false));
    let request = sent(&run.on(Event::Carrier(true)));
    let actions = run.on(Event::Received(&answer(&request, kind::NAK, 0)));
    assert!(matches!(&actions[..], [Action::Deconfigure { .. }, Action::Send { .. }]), "{actions:?}");
}

#[test]
fn a_lease_ends_on_a_dead_link_too() {
    let mut run = Run::bound(60);
    run.on(Event::Carrier(false));
    let actions = run.tick();
    assert!(matches!(&actions[..], [Action::Deconfigure { why: Loss::Ended, .. }]), "{actions:?}");
    assert_eq!(run.client.deadline(), None);
}

#[test]
fn a_lease_taken_over_past_t1_is_renewed_at_once() {
    let lease = Run::bound(3600).client.lease().unwrap().clone();
    let mut run = Run::new(Client::resume(identity(), lease));
    run.now = at(100 + 2000);
    let actions = run.on(Event::Tick);
    assert!(matches!(&actions[..], [Action::Send { to: To::Server(SERVER), .. }]), "{actions:?}");
    run.now = at(100 + 3599);
    let actions = run.on(Event::Tick);
    assert!(matches!(&actions[..], [Action::Send { to: To::Everyone, .. }]), "{actions:?}");
}

#[test]
fn what_the_client_says_of_itself() {
    let named = Identity { mac: MAC, hostname: Some("node".into()), wants_hostname: true };
    let mut run = Run::new(Client::new(named, None));
    let options = sent(&run.on(Event::Carrier(true))).options;
    assert_eq!(options[&option::CLIENT_ID], [1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(options[&option::HOSTNAME], b"node");
    assert_eq!(options[&option::MAX_SIZE], 1472u16.to_be_bytes());
    assert_eq!(options[&option::PARAMETERS], [1, 121, 3, 6, 15, 119, 26, 58, 59, 12]);
}

/// What can happen, for the properties below.
#[derive(Debug, Clone)]
enum Happening {
    Carrier(bool),
    Settled,
    /// To the deadline and this many milliseconds further.
    Tick(u64),
    /// This much of the way to the deadline, in 1/256.
    Wait(u8),
    /// A reply of this kind to the last message sent, with a lease of so many seconds.
    Reply(u8, u32),
    Garbage(Vec<u8>),
}

fn happening() -> impl Strategy<Value = Happening> {
    let kinds = prop::sample::select(vec![kind::OFFER, kind::ACK, kind::NAK]);
    let secs = prop_oneof![1u32..10, 60u32..4000, Just(u32::MAX)];
    prop_oneof![
        2 => any::<bool>().prop_map(Happening::Carrier),
        1 => Just(Happening::Settled),
        4 => (0u64..2_000_000).prop_map(Happening::Tick),
        2 => any::<u8>().prop_map(Happening::Wait),
        6 => (kinds, secs).prop_map(|(kind, secs)| Happening::Reply(kind, secs)),
        1 => proptest::collection::vec(any::<u8>(), 240..300).prop_map(Happening::Garbage),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_client_keeps_its_promises(
        happenings in proptest::collection::vec(happening(), 1..60),
        seed: u32,
    ) {
        let mut run = Run::new(Client::new(identity(), None));
        run.count = seed % 1_000_000;
        let mut last: Option<Message> = None;
        let mut carrier = false;
        let mut configured: Option<Lease> = None;
        for happening in happenings {
            let before = run.client.clone();
            let actions = match &happening {
                Happening::Carrier(up) => {
                    carrier = *up;
                    run.on(Event::Carrier(*up))
                }
                Happening::Settled => run.on(Event::Settled),
                Happening::Tick(late) => {
                    run.now = run.client.deadline().unwrap_or(run.now) + Duration::from_millis(*late);
                    run.on(Event::Tick)
                }
                Happening::Wait(part) => {
                    let left = run.client.deadline().map_or(Duration::ZERO, |d| d - run.now);
                    run.now = run.now + left * u32::from(*part) / 256;
                    run.on(Event::Tick)
                }
                Happening::Reply(kind, secs) => match &last {
                    Some(request) => run.on(Event::Received(&answer(request, *kind, *secs))),
                    None => vec![],
                },
                Happening::Garbage(bytes) => match crate::dhcp::message::decode(bytes) {
                    Ok(message) => run.on(Event::Received(&message)),
                    Err(_) => vec![],
                },
            };
            // Time goes on: no deadline is left behind, and only an idle client has none.
            prop_assert!(run.client.deadline().is_none_or(|due| due > run.now), "{:?}", run.client);
            // No lease outlives its end.
            prop_assert!(run.client.lease().is_none_or(|lease| !lease.is_over(run.now)));
            // Before its deadline a tick changes nothing.
            if matches!(happening, Happening::Wait(_)) {
                prop_assert_eq!(&before, &run.client);
                prop_assert!(actions.is_empty());
            }
            for action in &actions {
                match action {
                    Action::Send { message, to } => {
                        prop_assert!(carrier, "sent on a dead link");
                        prop_assert!(message.encode().len() <= MAX_MESSAGE);
                        // From an address only while it is held.
                        prop_assert_eq!(message.ciaddr.is_unspecified(), *to == To::Link);
                        last = Some(message.clone());
                    }
                    Action::Configure(lease) => configured = Some(lease.clone()),
                    Action::Deconfigure { lease, .. } => {
                        let done = configured.take();
                        prop_assert_eq!(done.as_ref(), Some(lease), "undone what was not done");
                    }
                }
            }
            // What is configured is what is held.
            prop_assert_eq!(configured.as_ref(), run.client.lease());
        }
    }

    #[test]
    fn with_a_good_server_two_answers_always_lead_to_a_lease(
        happenings in proptest::collection::vec(happening(), 0..40),
        secs in 10u32..100_000,
    ) {
        let mut run = Run::new(Client::new(identity(), None));
        let mut last = None;
        let mut note = |actions: Vec<Action>| {
            for action in actions {
                if let Action::Send { message, .. } = action {
                    last = Some(message);
                }
            }
            last.clone()
        };
        for happening in happenings {
            match happening {
                Happening::Carrier(up) => note(run.on(Event::Carrier(up))),
                Happening::Settled => note(run.on(Event::Settled)),
                Happening::Tick(late) => {
                    run.now = run.client.deadline().unwrap_or(run.now) + Duration::from_millis(late);
                    note(run.on(Event::Tick))
                }
                Happening::Reply(kind, secs) => {
                    let reply = note(vec![]).map(|request| answer(&request, kind, secs));
                    note(reply.map(|reply| run.on(Event::Received(&reply))).unwrap_or_default())
                }
                _ => None,
            };
        }
        note(run.on(Event::Carrier(true)));
        for _ in 0..4 {
            if run.client.phase() == "bound" {
                break;
            }
            if run.client.listens() == Listen::Nothing {
                run.now = run.client.deadline().unwrap();
                note(run.on(Event::Tick));
            }
            let request = note(vec![]).unwrap();
            let kind = if kind_of(&request) == kind::DISCOVER { kind::OFFER } else { kind::ACK };
            note(run.on(Event::Received(&answer(&request, kind, secs))));
        }
        prop_assert_eq!(run.client.phase(), "bound");
    }
}
