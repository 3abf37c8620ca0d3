use super::*;

fn of(line: &str) -> Result<Invocation, Error> {
    parse(line.split_whitespace().map(OsString::from))
}

fn command(line: &str) -> Command {
    of(line).unwrap().command
}

#[test]
fn the_shim_of_containerd_can_drive_it() {
    let line = "--root /run/r --log /l/log.json --log-format json --systemd-cgroup=false create \
                --bundle /b --pid-file /b/init.pid --no-pivot --console-socket /c.sock abc";
    let invocation = of(line).unwrap();
    assert_eq!(invocation.root, PathBuf::from("/run/r"));
    assert_eq!(invocation.log, Some(Log { path: "/l/log.json".into(), format: LogFormat::Json }));
    let Command::Create(request) = invocation.command else { panic!("not create") };
    assert_eq!(request.id, "abc");
    assert_eq!(request.bundle, PathBuf::from("/b"));
    assert_eq!(request.pid_file, Some("/b/init.pid".into()));
    assert_eq!(request.console_socket, Some("/c.sock".into()));
    assert!(request.new_keyring);
}

#[test]
fn options_may_have_their_value_behind_an_equals_sign_and_follow_the_id() {
    let Command::Run { request, detach, keep } = command("run web --bundle=/b=c -d --preserve-fds=2 --keep")
    else {
        panic!("not run")
    };
    assert_eq!((request.bundle, request.preserve_fds), ("/b=c".into(), 2));
    assert!(detach && keep);
    assert_eq!(command("delete web --force"), Command::Delete { id: "web".into(), force: true });
}

#[test]
fn a_signal_is_term_unless_named() {
    let kill = |signal: &str, all| Command::Kill { id: "a".into(), signal: signal.into(), all };
    assert_eq!(command("kill a"), kill("TERM", false));
    assert_eq!(command("kill --all a 9"), kill("9", true));
    assert_eq!(command("kill a SIGHUP -a"), kill("SIGHUP", true));
}

#[test]
fn what_follows_the_id_of_exec_is_the_programs() {
    let Command::Exec(request) = command("exec -t -e A=1 --env B=2 -u 1:2 --cwd /x web ls -l --all") else {
        panic!("not exec")
    };
    assert_eq!(request.changes.args, ["ls", "-l", "--all"]);
    assert_eq!(request.changes.env, ["A=1", "B=2"]);
    assert!(request.changes.tty);
    let Command::Exec(request) = command("exec --process /p.json --detach --pid-file /x web") else {
        panic!("not exec")
    };
    assert_eq!(request.process, Some("/p.json".into()));
    assert!(request.changes.args.is_empty());
}

#[test]
fn limits_are_put_together_from_options() {
    let line = "update --memory 64M --memory-swap=-1 --cpu-quota 5000 --cpuset-cpus 0-1 --pids-limit 7 \
                --blkio-weight 100 a";
    let Command::Update { id, change: Change::Options(limits) } = command(line) else { panic!("no options") };
    assert_eq!(id, "a");
    let expected = serde_json::json!({
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"quota": 5000, "cpus": "0-1"},
        "pids": {"limit": 7},
        "blockIO": {"weight": 100},
    });
    assert_eq!(limits, expected);
    assert!(serde_json::from_value::<oci_spec::runtime::LinuxResources>(limits).is_ok());
}

#[test]
fn errors_name_the_command_and_the_word() {
    for (line, expected) in [
        ("", "no command is given (try kitc --help)"),
        ("fly", "there is no command \"fly\" (try kitc --help)"),
        ("create", "create: the container's id is missing"),
        ("create a b", "create: \"b\" is too much"),
        ("create --detach a", "create: there is no option --detach"),
        ("create a --bundle", "create: --bundle needs a value"),
        ("run --preserve-fds x a", "run: --preserve-fds cannot be \"x\""),
        ("exec a", "exec: the program, or --process, is missing"),
        ("exec -p f a ls", "exec: \"ls\" is too much"),
        ("list -f xml", "list: -f cannot be \"xml\""),
        ("update a", "update: --resources, or a limit, is missing"),
        ("update a --memory 1x", "update: --memory cannot be \"1x\""),
        ("update a --cpu-share -1", "update: --cpu-share cannot be \"-1\""),
        ("update a -r f --memory 1", "update: \"--resources beside limits\" is too much"),
        ("events a --interval 0s", "events: --interval cannot be \"0s\""),
        ("--systemd-cgroup run a", "--systemd-cgroup is not supported: cgroups are made directly"),
        ("--log-format x list", "kitc: --log-format cannot be \"x\""),
    ] {
        assert_eq!(of(line).unwrap_err().to_string(), expected, "{line}");
    }
}

#[test]
fn every_command_of_the_help_parses() {
    for (line, expected) in [
        ("start a", Command::Start { id: "a".into() }),
        ("state a", Command::State { id: "a".into() }),
        ("pause a", Command::Pause { id: "a".into(), paused: true }),
        ("resume a", Command::Pause { id: "a".into(), paused: false }),
        ("ps -f json a", Command::Ps { id: "a".into(), json: true }),
        ("update -r - a", Command::Update { id: "a".into(), change: Change::File("-".into()) }),
        (
            "events --stats a",
            Command::Events { id: "a".into(), stats: true, interval: Duration::from_secs(5) },
        ),
        (
            "events a --interval=200ms",
            Command::Events { id: "a".into(), stats: false, interval: Duration::from_millis(200) },
        ),
        ("list", Command::List { format: ListFormat::Table }),
        ("list -q", Command::List { format: ListFormat::Names }),
        ("list --format json", Command::List { format: ListFormat::Json }),
        ("features", Command::Features),
        ("--version", Command::Version),
        ("--help", Command::Help),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}
