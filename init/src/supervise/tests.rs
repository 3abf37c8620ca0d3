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
    Supervisor::new(Plan { version: VERSION, volumes: vec![], onboot, services, onshutdown })
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
    assert_eq!(said(&actions), ["kit: a failed: timed out after 10 s"]);
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

#[derive(Clone, Debug)]
enum Chance {
    Wait(u64),
    End(usize, bool),
    Ready(usize),
    Order(u8, usize),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        (0u64..20_000).prop_map(Chance::Wait),
        (0usize..4, any::<bool>()).prop_map(|(at, well)| Chance::End(at, well)),
        (0usize..4).prop_map(Chance::Ready),
        (0u8..4, 0usize..4).prop_map(|(what, at)| Chance::Order(what, at)),
    ]
}

/// The machine as the supervisor sees it: what it was told to start runs until it is killed or ends.
struct World {
    node: Supervisor,
    now: Time,
    up: Vec<Unit>,
    started: Vec<(Unit, Time)>,
    over: bool,
}

impl World {
    fn happen(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.node.step(event, self.now) {
                match action {
                    Action::Start(unit) => {
                        assert!(!self.up.contains(&unit), "{unit:?} runs twice");
                        if let Unit::Service(at) = unit {
                            let after = self.node.after[at].clone();
                            assert!(
                                after.iter().all(|a| self.node.services[*a].was_ready),
                                "{unit:?} is too early"
                            );
                            assert!(!self.node.is_ending(), "{unit:?} starts at the end");
                        }
                        self.up.push(unit);
                        self.started.push((unit, self.now));
                        events.push(Event::Started(unit));
                    }
                    Action::Kill(unit, _) if self.up.contains(&unit) => {
                        self.up.retain(|other| *other != unit);
                        events.push(Event::Ended(unit, End::Signal(9)));
                    }
                    Action::Finish(_) => {
                        assert!(self.up.is_empty(), "{:?} outlive the end", self.up);
                        self.over = true;
                    }
                    _ => {}
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_nothing_runs_twice_or_early_and_the_end_comes(chances in prop::collection::vec(chance(), 0..80)) {
        let mut limited = service("c", &[], Policy::Always);
        limited.restart.max_retries = Some(2);
        let services = vec![
            probed("a", Policy::OnFailure), service("b", &["a"], Policy::Always), limited, service("d", &["a", "c"], Policy::No),
        ];
        let node = node(vec![task("o", Some(3), false)], services, vec![task("z", None, false)]);
        let mut world = World { node, now: secs(0), up: vec![], started: vec![], over: false };
        world.happen(Event::Boot);
        for chance in chances {
            match chance {
                Chance::Wait(ms) => world.now += Duration::from_millis(ms),
                Chance::End(at, well) => {
                    if let Some(unit) = world.up.get(at).copied() {
                        world.up.remove(at);
                        world.happen(Event::Ended(unit, End::Code(i32::from(!well))));
                    }
                }
                Chance::Ready(at) => world.happen(Event::Ready(at)),
                Chance::Order(0, at) => world.happen(Event::Order(Order::Stop(at))),
                Chance::Order(1, at) => world.happen(Event::Order(Order::Start(at))),
                Chance::Order(_, at) => world.happen(Event::Order(Order::Restart(at))),
            }
            world.happen(Event::Tick);
        }
        world.happen(Event::Order(Order::Finish(Finish::PowerOff)));
        for _ in 0..40 {
            if world.over { break; }
            world.now = world.node.deadline().unwrap_or(world.now + secs(1)).max(world.now);
            world.happen(Event::Tick);
        }
        prop_assert!(world.over, "{:?} {:?}", world.node.phase, world.up);
    }
}
