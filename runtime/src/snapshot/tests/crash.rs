//! A process that uses a store is killed at any instant, again and again.

use super::*;

const NAME: &str = "snapshot::tests::crash::a_process_that_is_killed_at_any_instant_leaves_a_whole_store";
const ROUNDS: u64 = 40;

/// Layers that are recognised by what is in them.
fn archives() -> Vec<Vec<u8>> {
    (0..4)
        .map(|n| {
            let names: Vec<String> = (0..50).map(|file| format!("{n}/d{}/{file}", file % 7)).collect();
            let text = format!("layer {n}\n").repeat(300);
            archive(&names.iter().map(|name| (name.as_str(), text.as_str())).collect::<Vec<_>>())
        })
        .collect()
}

/// What the process does until it is killed: a line after each step.
fn work(store: &Store) {
    let archives = archives();
    for n in 0.. {
        let layers: Vec<Digest> = (0..=n % 4)
            .map(|at| unpack_archive(store, archives[at].clone()).expect("a good layer"))
            .collect();
        println!("step unpacked");
        let id = format!("s{}", n % 5);
        if store.get(&id).expect("a record").is_some() {
            store.remove(&id).expect("removed");
            println!("step removed");
        }
        let made = store.prepare(&id, &layers).expect("made");
        println!("step made");
        fs::create_dir_all(made.upper.expect("it can be written to").dir.join("a/b/c")).expect("a directory");
        if n % 3 == 2 {
            store.sweep(nobody).expect("a sweep");
            println!("step swept");
        }
    }
}

/// Files with their sizes, below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).expect("a directory") {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("it is there");
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(dir).expect("below").to_owned(), meta.len());
            }
        }
    }
    found
}

fn is_whole(store: &Store) {
    let whole: BTreeMap<String, usize> =
        archives().iter().map(|bytes| (dir_name(&digest::of(bytes)), 50)).collect();
    for name in names(&store.root.join("layers")).expect("a directory") {
        let Some(count) = whole.get(&name) else {
            assert!(name.starts_with(".part-"), "{name} is neither a layer nor unfinished");
            continue;
        };
        let files = files(&store.root.join("layers").join(&name));
        assert_eq!(files.len(), *count, "files in {name}");
        let len = "layer 0\n".len() as u64 * 300;
        assert!(files.values().all(|file| *file == len), "{files:?}");
    }
    for id in store.list().expect("a list") {
        let overlay = store.get(&id).expect("a whole record").expect("it is listed");
        let upper = overlay.upper.expect("it can be written to");
        assert!(upper.dir.is_dir() && upper.work.is_dir(), "{id} is whole");
        assert!(overlay.lower.iter().all(|dir| dir.is_dir()), "{id} has its layers");
    }
}

#[test]
fn a_process_that_is_killed_at_any_instant_leaves_a_whole_store() {
    if let Some(dir) = std::env::var_os("KIT_TEST_DIR") {
        return work(&Store::open(dir).expect("a store"));
    }
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let mut steps_seen = 0;
    for round in 0..ROUNDS {
        let mut child = this_test("", &[], NAME, &store.root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // Somewhere in the step after this one; the kernel's schedule does the rest.
        let steps = lines.map_while(Result::ok).filter(|line| line.contains("step "));
        steps_seen += steps.take((round * 7 % 12) as usize).count();
        child.kill().expect("killed");
        child.wait().expect("waited for");
        is_whole(&store);
    }
    assert!(steps_seen as u64 > ROUNDS, "{steps_seen} steps were seen");
    for id in store.list().expect("a list") {
        assert!(store.remove(&id).expect("removed"));
    }
    store.sweep(nobody).expect("a sweep");
    assert_eq!(rest(&store), [""; 0], "all of it can be removed");
}
