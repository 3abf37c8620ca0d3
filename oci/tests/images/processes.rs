//! Several processes at one store, processes that die, and what comes from the environment. The processes are this test
//! program again, which does as its environment says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kit_oci::digest::of;
use kit_oci::registry::{Client, Credentials, Options, Roots, Timeouts};
use kit_oci::store::Store;

use crate::support::*;

const TASK: &str = "KIT_OCI_TEST_TASK";

/// The other side: does the task of the environment, if there is one, and panics if that fails.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let argument = |name: &str| std::env::var(format!("{TASK}_{name}")).unwrap();
    match task.as_str() {
        "pull" => {
            let store = Store::open(argument("STORE")).unwrap();
            let idle = Duration::from_secs(120);
            let options = Options { timeouts: Timeouts { idle, ..hasty().timeouts }, ..hasty() };
            pulled(&store, &Client::new(options), &argument("REFERENCE").parse().unwrap()).unwrap();
        }
        "tag" => {
            let store = Store::open(argument("STORE")).unwrap();
            let target = store.names().unwrap()[0].target.clone();
            for number in 0..10 {
                let name = format!("{}:{number}", argument("NAME"));
                store.tag(&name.parse().unwrap(), &target).unwrap();
            }
        }
        "log in" => {
            let credentials = Credentials::from_env().unwrap();
            let client = Client::new(Options { credentials, ..hasty() });
            client.ping(&argument("HOST")).unwrap();
        }
        "trust" => {
            let roots = Roots::of_the_machine();
            assert_eq!(roots.is_ok(), argument("RIGHT") == "yes", "{roots:?}");
        }
        other => panic!("no task {other}"),
    }
}

fn start(task: &str, arguments: &[(&str, &str)], environment: &[(&str, &str)]) -> Child {
    let named: BTreeMap<String, &str> =
        arguments.iter().map(|(name, value)| (format!("{TASK}_{name}"), *value)).collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture"])
        .env(TASK, task)
        .envs(named)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn succeed(children: Vec<Child>) {
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn layers() -> Vec<Vec<u8>> {
    (0..5u8).map(|number| vec![number; 400_000]).collect()
}

fn content() -> Content {
    let layers = layers();
    Content::image("1", &layers.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn processes_that_pull_the_same_image_fetch_each_blob_once() {
    let content = content();
    let server = Server::start(move |seen| content.answer(seen));
    let here = place();
    let (store, name) = (here.store.path().display().to_string(), server.reference(":1").to_string());
    let pull = || start("pull", &[("STORE", &store), ("REFERENCE", &name)], &[]);
    succeed(vec![pull(), pull(), pull()]);
    for layer in layers() {
        assert_eq!(server.count(&hex(&layer)), 1);
    }
    let report = here.store.verify().unwrap();
    assert_eq!((report.blobs, report.corrupt.len(), report.strange.len()), (7, 0, 0));
    assert!(files(&here.store, "ingest").is_empty());
    assert_eq!(here.store.gc(&[]).unwrap().removed, []);
}

#[test]
fn processes_that_tag_lose_no_name() {
    let content = content();
    let server = Server::start(move |seen| content.answer(seen));
    let here = place();
    pulled(&here.store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    let store = here.store.path().display().to_string();
    succeed((0..4).map(|n| start("tag", &[("STORE", &store), ("NAME", &format!("name{n}"))], &[])).collect());
    assert_eq!(here.store.names().unwrap().len(), 41);
}

/// Waits for a condition; fails after a minute.
fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_pull_leaves_no_half_blob_and_is_resumed() {
    let big: Vec<u8> = (0..2_000_000u32).map(|number| (number * 7 % 251) as u8).collect();
    let content = Content::image("1", &[&big]);
    let layer = hex(&big);
    let stalling = layer.clone();
    let server = Server::start(move |seen| {
        let good = content.answer(seen);
        let first = seen.path.ends_with(&stalling) && seen.range().is_none();
        if first { good.stalled(1_000_000) } else { good }
    });
    let here = place();
    let (store, name) = (here.store.path().display().to_string(), server.reference(":1").to_string());
    let mut child = start("pull", &[("STORE", &store), ("REFERENCE", &name)], &[]);
    let part = here.store.path().join("ingest").join(format!("sha256-{layer}.part"));
    wait_for("half of the blob", || fs::metadata(&part).is_ok_and(|part| part.len() == 1_000_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!here.store.has(&of(&big)).unwrap());
    assert!(here.store.verify().unwrap().corrupt.is_empty());

    pulled(&here.store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    let asked: Vec<_> = server.seen().into_iter().filter(|seen| seen.path.ends_with(&layer)).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].range(), Some(1_000_000));
    assert!(here.store.verify().unwrap().corrupt.is_empty());
    assert!(files(&here.store, "ingest").is_empty());
}

#[test]
fn a_sweep_does_not_run_while_another_process_pulls() {
    let content = content();
    let layer = hex(&layers()[0]);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = Server::start(move |seen| {
        if seen.path.ends_with(&layer) {
            let _ = released.lock().unwrap().recv();
        }
        content.answer(seen)
    });
    let here = place();
    let (store, name) = (here.store.path().display().to_string(), server.reference(":1").to_string());
    let child = start("pull", &[("STORE", &store), ("REFERENCE", &name)], &[]);
    wait_for("the pull", || server.count(&hex(&layers()[0])) == 1);
    let error = here.store.gc(&[]).unwrap_err();
    assert_eq!(error.to_string(), format!("the store {store} is in use"));
    release.send(()).unwrap();
    succeed(vec![child]);
    assert_eq!(here.store.gc(&[]).unwrap().removed, []);
}

#[test]
fn starting_other_processes_does_not_keep_a_store_in_use() {
    let here = place();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let failed = (0..200u32).find_map(|number| {
            here.store.put_bytes(&number.to_le_bytes()).unwrap();
            here.store.gc(&[]).err()
        });
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}

#[test]
fn a_credential_helper_is_asked_by_its_protocol() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Basic dXNlcjpodW50ZXIy") => Answer::status(200),
        _ => Answer::status(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    let work = tempfile::tempdir().unwrap();
    let helper = work.path().join("docker-credential-kit-test");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {0} ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         echo '{{\"ServerURL\": \"{0}\", \"Username\": \"user\", \"Secret\": \"hunter2\"}}'\n",
        server.host()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", work.path().display(), std::env::var("PATH").unwrap());
    let docker = work.path().display().to_string();
    for config in [
        format!(r#"{{"credHelpers": {{"{}": "kit-test"}}}}"#, server.host()),
        r#"{"credsStore": "kit-test"}"#.to_owned(),
        // What a store does not have may be in the file.
        format!(
            r#"{{"credsStore": "kit-test", "auths": {{"https://{}/": {{"auth": "dXNlcjpodW50ZXIy"}}}}}}"#,
            server.host()
        ),
    ] {
        fs::write(work.path().join("config.json"), config).unwrap();
        let environment = [("PATH", path.as_str()), ("DOCKER_CONFIG", &docker)];
        succeed(vec![start("log in", &[("HOST", &server.host())], &environment)]);
    }
    // And `~/.docker` where nothing else is said.
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".docker")).unwrap();
    fs::copy(work.path().join("config.json"), home.path().join(".docker/config.json")).unwrap();
    let home = home.path().display().to_string();
    let environment = [("PATH", path.as_str()), ("HOME", &home), ("DOCKER_CONFIG", "")];
    succeed(vec![start("log in", &[("HOST", &server.host())], &environment)]);
}

#[test]
fn a_bundle_that_the_environment_names_must_be_one() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("ca.pem");
    fs::write(&file, "none").unwrap();
    let file = file.display().to_string();
    succeed(vec![
        start("trust", &[("RIGHT", "no")], &[("SSL_CERT_FILE", &file)]),
        start("trust", &[("RIGHT", "yes")], &[("SSL_CERT_FILE", "")]),
    ]);
}
