use super::*;
use kit_spec::node::{Ready, Restart, Runtime, Stop};
use kit_spec::plan::{Plan, Service, Task, VERSION};
use proptest::prelude::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn task(name: &str, timeout: Option<u64>, required: bool) -> Task {
    let (name, bundle) = (name.to_owned(), format!("/containers/onboot/000-{name}"));
    Task { name, bundle, runtime: Runtime::default(), timeout: timeout.map(secs), required }
}

fn service(name: &str, after: &[&str], policy: Policy) -> Service {
    Service {
        name: name.into(),
        bundle: format!("/containers/services/{name}"),
        runtime: Runtime::default(),
        restart: Restart { policy, backoff: secs(1), max_backoff: secs(8), max_retries: None },
        after: after.iter().map(|name| name.to_string()).collect(),
        ready: None,
        stop: Stop::default(),
    }
}

fn probed(name: &str, policy: Policy) -> Service {
    let probe = kit_spec::node::Probe::File("/x".into());
    Service {
        ready: Some(Ready { probe, deadline: secs(5), interval: secs(1) }),
        ..service(name, &[], policy)
    }
}

fn node(onboot: Vec<Task>, services: Vec<Service>, onshutdown: Vec<Task>) -> Supervisor {
    Supervisor::new(Rc::new(Plan { version: VERSION, volumes: vec![], onboot, services, onshutdown }), None)
}

fn said(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter_map(|a| if let Action::Say(line) = a { Some(line.to_string()) } else { None })
        .collect()
}

const S: fn(usize) -> Unit = Unit::Service;

#[test]
fn tasks_run_one_after_the_other_and_then_services() {
    let mut node = node(
        vec![task("a", None, false), task("b", None, false)],
        vec![service("s", &[], Policy::No)],
        vec![],
    );
    assert_eq!(node.step(Event::Boot, secs(0)), [Action::Start(Unit::Onboot(0))]);
    assert_eq!(
        node.step(Event::Ended(Unit::Onboot(0), End::Code(0)), secs(1)),
        [Action::Start(Unit::Onboot(1))]
    );
    let actions = node.step(Event::Ended(Unit::Onboot(1), End::Code(3)), secs(2));
    assert_eq!(actions, [Action::Say(Line::Failed("b".into(), "exit code 3".into())), Action::Start(S(0))]);
    assert_eq!(said(&node.step(Event::Started(S(0)), secs(3))), ["kit: ready"]);
}

#[test]
fn a_task_that_hangs_is_killed_and_boot_goes_on() {
    let mut node = node(vec![task("a", Some(10), false)], vec![], vec![]);
    node.step(Event::Boot, secs(0));
    assert_eq!(node.deadline(), Some(secs(10)));
    let actions = node.step(Event::Tick, secs(10));
    assert_eq!(said(&actions), ["kit: a failed: timed out after 10s"]);
    assert!(actions.contains(&Action::Kill(Unit::Onboot(0), Kill::Cgroup)));
    assert_eq!(said(&node.step(Event::Ended(Unit::Onboot(0), End::Signal(9)), secs(11))), ["kit: ready"]);
}

#[test]
fn a_required_task_that_fails_stops_the_boot() {
    let mut node = node(vec![task("a", None, true)], vec![service("s", &[], Policy::No)], vec![]);
    node.step(Event::Boot, secs(0));
    let actions = node.step(Event::Ended(Unit::Onboot(0), End::Code(1)), secs(1));
    assert_eq!(said(&actions), ["kit: a failed: exit code 1", "kit: boot stopped: a is required"]);
    assert_eq!(node.step(Event::Tick, secs(100)), []);
    assert_eq!(node.deadline(), None);
    assert!(!node.step(Event::Order(Order::Finish(Finish::PowerOff)), secs(101)).is_empty());
}

#[test]
fn waits_double_up_to_the_cap_and_begin_anew_after_a_long_run() {
    let mut node = node(vec![], vec![service("s", &[], Policy::Always)], vec![]);
    node.step(Event::Boot, secs(0));
    let mut now = secs(0);
    let mut waits = vec![];
    for _ in 0..5 {
        node.step(Event::Started(S(0)), now);
        node.step(Event::Ended(S(0), End::Code(1)), now);
        let until = node.deadline().unwrap();
        waits.push((until - now).as_secs());
        now = until;
        assert_eq!(node.step(Event::Tick, now), [Action::Start(S(0))]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 8]);
    node.step(Event::Started(S(0)), now);
    now += RECOVERED;
    node.step(Event::Ended(S(0), End::Code(1)), now);
    assert_eq!(node.deadline(), Some(now + secs(1)));
}

#[test]
fn a_service_waits_for_those_it_starts_after_to_be_ready() {
    let mut node = node(vec![], vec![service("b", &["a"], Policy::No), probed("a", Policy::No)], vec![]);
    assert_eq!(node.step(Event::Boot, secs(0)), [Action::Start(S(1))]);
    assert_eq!(node.step(Event::Started(S(1)), secs(1)), [Action::Probe(1)]);
    assert_eq!(node.step(Event::Ready(1), secs(2)), [Action::Start(S(0))]);
    assert_eq!(said(&node.step(Event::Started(S(0)), secs(3))), ["kit: ready"]);
}

#[test]
fn a_service_that_is_never_ready_fails_and_so_do_those_after_it() {
    let mut node = node(vec![], vec![probed("a", Policy::No), service("b", &["a"], Policy::No)], vec![]);
    node.step(Event::Boot, secs(0));
    node.step(Event::Started(S(0)), secs(0));
    assert_eq!(said(&node.step(Event::Tick, secs(5))), ["kit: a failed: not ready after 5s"]);
    let actions = node.step(Event::Ended(S(0), End::Signal(15)), secs(6));
    assert_eq!(said(&actions), ["kit: b failed: a, which it starts after, failed"]);
}

#[test]
fn services_stop_in_the_reverse_order_and_then_onshutdown_runs() {
    let services = vec![service("a", &[], Policy::Always), service("b", &["a"], Policy::Always)];
    let mut node = node(vec![], services, vec![task("bye", None, false)]);
    node.step(Event::Boot, secs(0));
    node.step(Event::Started(S(0)), secs(0));
    node.step(Event::Started(S(1)), secs(0));
    let actions = node.step(Event::Order(Order::Finish(Finish::Reboot)), secs(1));
    assert_eq!(actions, [Action::Say(Line::Shutdown), Action::Signal(S(1), Signal::TERM)]);
    // One that does not listen is killed after its grace.
    assert_eq!(node.step(Event::Tick, secs(11)), [Action::Kill(S(1), Kill::Cgroup)]);
    assert_eq!(node.step(Event::Ended(S(1), End::Signal(9)), secs(11)), [Action::Signal(S(0), Signal::TERM)]);
    assert_eq!(node.step(Event::Ended(S(0), End::Code(0)), secs(12)), [Action::Start(Unit::Onshutdown(0))]);
    let last = node.step(Event::Ended(Unit::Onshutdown(0), End::Code(0)), secs(13));
    assert_eq!(last, [Action::Finish(Finish::Reboot)]);
}

#[test]
fn a_restart_is_ordered_and_done() {
    let mut node = node(vec![], vec![service("a", &[], Policy::No)], vec![]);
    node.step(Event::Boot, secs(0));
    node.step(Event::Started(S(0)), secs(0));
    let actions = node.step(Event::Order(Order::Restart(0)), secs(1));
    assert_eq!(actions, [Action::Signal(S(0), Signal::TERM)]);
    assert_eq!(node.step(Event::Ended(S(0), End::Signal(15)), secs(2)), [Action::Start(S(0))]);
}

#[test]
fn a_node_whose_boot_stopped_starts_anew_if_it_is_told_to() {
    let mut node = node(vec![task("a", None, true)], vec![], vec![]);
    node.panic = Some(secs(30));
    node.step(Event::Boot, secs(0));
    node.step(Event::Ended(Unit::Onboot(0), End::Code(1)), secs(1));
    assert_eq!(node.deadline(), Some(secs(31)));
    let actions = node.step(Event::Tick, secs(31));
    assert_eq!(actions, [Action::Say(Line::Shutdown), Action::Finish(Finish::Reboot)]);
}

#[test]
fn what_cannot_be_killed_is_waited_for_no_longer() {
    let mut node = node(vec![task("a", Some(10), false)], vec![service("s", &[], Policy::Always)], vec![]);
    node.step(Event::Boot, secs(0));
    node.step(Event::Tick, secs(10));
    assert_eq!(node.deadline(), Some(secs(20)));
    assert_eq!(node.step(Event::Tick, secs(20)), [Action::Start(S(0))]);
    node.step(Event::Started(S(0)), secs(20));
    node.step(Event::Order(Order::Finish(Finish::PowerOff)), secs(30));
    assert_eq!(node.step(Event::Tick, secs(40)), [Action::Kill(S(0), Kill::Cgroup)]);
    let actions = node.step(Event::Tick, secs(50));
    assert_eq!(actions.last(), Some(&Action::Finish(Finish::PowerOff)));
    assert_eq!(said(&actions), ["kit: s failed: cannot be killed"]);
}

#[test]
fn a_task_that_runs_when_the_end_comes_is_told_and_then_killed() {
    let mut node = node(vec![task("a", None, true), task("b", None, false)], vec![], vec![]);
    node.step(Event::Boot, secs(0));
    let actions = node.step(Event::Order(Order::Finish(Finish::PowerOff)), secs(1));
    assert_eq!(actions, [Action::Say(Line::Shutdown), Action::Signal(Unit::Onboot(0), Signal::TERM)]);
    // It was still being started.
    assert_eq!(
        node.step(Event::Started(Unit::Onboot(0)), secs(2)),
        [Action::Signal(Unit::Onboot(0), Signal::TERM)]
    );
    assert_eq!(node.step(Event::Tick, secs(11)), [Action::Kill(Unit::Onboot(0), Kill::Cgroup)]);
    let actions = node.step(Event::Ended(Unit::Onboot(0), End::Signal(9)), secs(11));
    assert_eq!(actions, [Action::Finish(Finish::PowerOff)]);
}

#[test]
fn an_end_before_the_beginning_is_the_end() {
    let mut node = node(vec![task("a", None, false)], vec![service("s", &[], Policy::Always)], vec![]);
    let actions = node.step(Event::Order(Order::Finish(Finish::Halt)), secs(0));
    assert_eq!(actions, [Action::Say(Line::Shutdown), Action::Finish(Finish::Halt)]);
    assert_eq!(node.step(Event::Boot, secs(1)), []);
}

#[test]
fn a_service_that_is_stopped_while_it_fails_stays_so() {
    let mut node = node(vec![], vec![probed("a", Policy::Always)], vec![]);
    node.step(Event::Boot, secs(0));
    node.step(Event::Started(S(0)), secs(0));
    node.step(Event::Tick, secs(5));
    node.step(Event::Order(Order::Stop(0)), secs(6));
    node.step(Event::Ended(S(0), End::Signal(15)), secs(7));
    assert_eq!((node.status(0), node.deadline()), (&Status::Done, None));
}

#[test]
fn a_service_is_given_up_after_so_many_restarts_in_a_row() {
    let mut limited = service("a", &[], Policy::OnFailure);
    limited.restart.max_retries = Some(2);
    let mut node = node(vec![], vec![limited], vec![]);
    node.step(Event::Boot, secs(0));
    for retry in 0..3 {
        node.step(Event::Started(S(0)), secs(100 * retry));
        node.step(Event::Ended(S(0), End::Code(1)), secs(100 * retry));
        node.step(Event::Tick, secs(100 * retry + 99));
    }
    assert_eq!(node.status(0), &Status::Failed("exit code 1".into()));
    assert_eq!(node.restarts(0), 2);
    // An order begins anew.
    assert_eq!(node.step(Event::Order(Order::Start(0)), secs(400)), [Action::Start(S(0))]);
}

#[derive(Clone, Debug)]
enum Chance {
    Wait(u64),
    Start(usize, bool),
    End(usize, bool),
    Ready(usize),
    Order(u8, usize),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        (0u64..20_000).prop_map(Chance::Wait),
        (0usize..4, prop::bool::weighted(0.9)).prop_map(|(at, well)| Chance::Start(at, well)),
        (0usize..4, any::<bool>()).prop_map(|(at, well)| Chance::End(at, well)),
        (0usize..4).prop_map(Chance::Ready),
        (0u8..4, 0usize..4).prop_map(|(what, at)| Chance::Order(what, at)),
    ]
}

/// What the machine knows of a service.
#[derive(Clone, Copy, Default)]
struct Past {
    /// When it ended last.
    ended: Option<Time>,
    /// Whether something was ordered since its last start.
    ordered: bool,
    /// Restarts in a row that nobody ordered.
    retries: u32,
    /// When it was started last.
    started: Time,
}

/// The machine as the supervisor sees it: what it was told to start comes up some time later, and runs until it ends or
/// is killed.
struct World {
    node: Supervisor,
    now: Time,
    coming: Vec<Unit>,
    up: Vec<Unit>,
    past: Vec<Past>,
    /// Whether a kill does what it should.
    mortal: bool,
    booted: bool,
    over: bool,
}

impl World {
    fn new(node: Supervisor, mortal: bool) -> World {
        let past = vec![Past::default(); node.services.len()];
        World { node, now: secs(0), coming: vec![], up: vec![], past, mortal, booted: false, over: false }
    }

    fn happen(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let Event::Ended(S_(at), _) = &event {
                self.past[*at].ended = Some(self.now);
            }
            for action in self.node.step(event, self.now) {
                match action {
                    Action::Start(unit) => self.start(unit),
                    Action::Kill(unit, _) if self.mortal => {
                        let was = self.up.len() + self.coming.len();
                        self.up.retain(|other| *other != unit);
                        self.coming.retain(|other| *other != unit);
                        assert!(self.up.len() + self.coming.len() < was, "{unit:?} is killed and not there");
                        events.push(Event::Ended(unit, End::Signal(9)));
                    }
                    Action::Finish(_) => {
                        assert!(!self.over, "it ends twice");
                        assert!(!self.mortal || self.up.is_empty(), "{:?} outlive the end", self.up);
                        self.over = true;
                    }
                    _ => {}
                }
            }
        }
    }

    fn start(&mut self, unit: Unit) {
        let there = self.up.contains(&unit) || self.coming.contains(&unit);
        assert!(!there || !self.mortal, "{unit:?} runs twice");
        assert!(self.booted || matches!(unit, Unit::Onshutdown(_)), "{unit:?} is before the beginning");
        if let Unit::Service(at) = unit {
            let after = self.node.after[at].clone();
            assert!(after.iter().all(|a| self.node.services[*a].was_ready), "{unit:?} is too early");
            assert!(!self.node.is_ending(), "{unit:?} starts at the end");
            self.restarted(at);
        }
        if !there {
            self.coming.push(unit);
        }
    }

    /// A start that nobody ordered keeps to its policy.
    fn restarted(&mut self, at: usize) {
        let restart = self.node.plan.services[at].restart;
        let past = &mut self.past[at];
        if let Some(ended) = past.ended.filter(|_| !past.ordered) {
            assert!(restart.policy != Policy::No, "service {at} starts again");
            let waited = self.now - ended;
            assert!(waited >= restart.backoff, "service {at} starts after {waited:?}");
            if ended.saturating_sub(past.started) >= RECOVERED {
                past.retries = 0;
            }
            past.retries += 1;
            if let Some(most) = restart.max_retries {
                assert!(past.retries <= most, "service {at} starts for the {}th time", past.retries);
            }
        }
        (past.ended, past.ordered) = (None, false);
    }

    fn chance(&mut self, chance: Chance) {
        match chance {
            Chance::Wait(ms) => {
                self.now += Duration::from_millis(ms);
            }
            Chance::Start(at, well) if at < self.coming.len() => {
                let unit = self.coming.remove(at);
                if well {
                    self.up.push(unit);
                    if let Unit::Service(at) = unit {
                        self.past[at].started = self.now;
                    }
                    self.happen(Event::Started(unit));
                } else {
                    self.happen(Event::Ended(unit, End::NotStarted("no".into())));
                }
            }
            Chance::End(at, well) if at < self.up.len() => {
                let unit = self.up.remove(at);
                self.happen(Event::Ended(unit, End::Code(i32::from(!well))));
            }
            Chance::Ready(at) if self.up.contains(&S(at)) => self.happen(Event::Ready(at)),
            Chance::Order(what, at) => {
                self.past[at] = Past { ordered: true, ..Past::default() };
                let order = [Order::Stop, Order::Start, Order::Restart, Order::Restart][usize::from(what)];
                self.happen(Event::Order(order(at)));
            }
            _ => {}
        }
        self.happen(Event::Tick);
    }
}

use Unit::Service as S_;

/// Enough for a quick look; `KIT_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("KIT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn whatever_happens_nothing_runs_twice_or_early_and_the_end_comes(
        chances in prop::collection::vec(chance(), 0..120), mortal in prop::bool::weighted(0.8), early: bool,
    ) {
        let mut limited = service("c", &[], Policy::Always);
        limited.restart.max_retries = Some(2);
        let services = vec![
            probed("a", Policy::OnFailure), service("b", &["a"], Policy::Always), limited,
            service("d", &["a", "c"], Policy::No),
        ];
        let onboot = vec![task("o", Some(3), false), task("p", None, false)];
        let node = node(onboot, services, vec![task("z", None, false)]);
        let mut world = World::new(node, mortal);
        if !early {
            world.booted = true;
            world.happen(Event::Boot);
        }
        for chance in chances {
            world.chance(chance);
        }
        world.happen(Event::Order(Order::Finish(Finish::PowerOff)));
        for _ in 0..40 {
            if world.over { break; }
            // Time alone brings the end.
            world.now = world.node.deadline().expect("nothing will happen any more").max(world.now);
            world.happen(Event::Tick);
        }
        prop_assert!(world.over, "{:?} {:?}", world.node.phase, world.up);
        prop_assert!(world.now <= secs(10_000_000));
    }
}
