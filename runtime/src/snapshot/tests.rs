use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;

mod crash;
mod mounted;

/// True, and said so, if this test cannot be run.
fn is_not_root() -> bool {
    let not = !rustix::process::geteuid().is_root();
    if not {
        println!("skipped: layers and overlays need root");
    }
    not
}

/// A store in a directory of its own.
fn store() -> (TempDir, Store) {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path().join("store")).expect("a store");
    (dir, store)
}

/// An archive of files with what they hold; names that end in `/` are directories of mode 0750.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        let dir = name.ends_with('/');
        header.set_entry_type(if dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(if dir { 0o750 } else { 0o640 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}

fn unpack_archive(store: &Store, archive: Vec<u8>) -> Result<Digest, Error> {
    let diff_id = digest::of(&archive);
    let blob = Verifying::new(Cursor::new(archive), diff_id.clone(), None).expect("sha256");
    store.unpack(blob, &diff_id, &unpack::Options::default())?;
    Ok(diff_id)
}

fn layer(store: &Store, entries: &[(&str, &str)]) -> Digest {
    unpack_archive(store, archive(entries)).expect("a good layer")
}

fn nobody() -> Vec<Digest> {
    Vec::new()
}

/// What is in the store's directories but for what is always there.
fn rest(store: &Store) -> Vec<String> {
    let below = |dir: &str| names(&store.root.join(dir)).expect("a directory");
    ["layers", "snapshots", "trash"].into_iter().flat_map(below).collect()
}

#[test]
fn a_layer_is_unpacked_once() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let bytes = archive(&[("a", "1")]);
    let diff_id = digest::of(&bytes);
    let blob = || Verifying::new(Cursor::new(bytes.clone()), diff_id.clone(), None).expect("sha256");
    assert!(!store.has(&diff_id).unwrap());
    assert!(store.unpack(blob(), &diff_id, &unpack::Options::default()).unwrap().is_some());
    assert!(store.unpack(blob(), &diff_id, &unpack::Options::default()).unwrap().is_none());
    assert!(store.has(&diff_id).unwrap());
    assert_eq!(store.layer_usage(&diff_id).unwrap().unwrap().inodes, 2);
    assert_eq!(store.layer_usage(&digest::of(b"none")).unwrap(), None);
}

#[test]
fn a_snapshot_is_found_again_and_its_name_means_one_thing() {
    if is_not_root() {
        return;
    }
    let (dir, store) = store();
    let low = layer(&store, &[("./", ""), ("a", "low")]);
    let top = layer(&store, &[("a", "top")]);
    let made = store.prepare("one", &[low.clone(), top.clone(), low.clone()]).unwrap();
    assert_eq!(
        made.lower,
        [store.layer(&low), store.layer(&top)],
        "a layer that comes twice counts where it is higher"
    );
    let view = store.view("see", std::slice::from_ref(&low)).unwrap();
    assert_eq!(view.lower, [store.layer(&low), store.root.join("empty/0")]);
    assert_eq!(view.upper, None);
    assert_eq!(store.view("nothing", &[]).unwrap().lower, store.empty());
    assert_eq!(store.prepare("bare", &[]).unwrap().lower, store.empty()[..1]);

    let again = Store::open(dir.path().join("store")).unwrap();
    assert_eq!(again.get("one").unwrap(), Some(made.clone()));
    assert_eq!(again.get("two").unwrap(), None);
    assert_eq!(again.list().unwrap(), ["bare", "nothing", "one", "see"]);
    assert_eq!(again.prepare("one", &[low.clone(), top.clone(), low.clone()]).unwrap(), made);
    let why = |made: Result<Overlay, Error>| made.expect_err("not that name").to_string();
    let taken = "make the snapshot one: there is one of other layers or of another kind";
    assert_eq!(why(store.prepare("one", std::slice::from_ref(&low))), taken);
    assert_eq!(why(store.view("one", &[low.clone(), top, low])), taken);
    let none = digest::of(b"none");
    assert_eq!(
        why(store.prepare("two", std::slice::from_ref(&none))),
        format!("make the snapshot two: the layer {none} is not unpacked")
    );
    assert_eq!(
        why(store.prepare("two", &vec![none; 500])),
        "make the snapshot two: 500 layers are too many (at most 499)"
    );
    for id in ["", ".", "..", "a/b", "../x", ".hidden", "a\0b", "é", &"x".repeat(201)] {
        assert!(matches!(store.prepare(id, &[]), Err(Error::Id { .. })), "{id:?} is no name");
        assert!(matches!(store.remove(id), Err(Error::Id { .. })), "{id:?} is no name");
    }
    assert_eq!(again.list().unwrap(), ["bare", "nothing", "one", "see"]);
    assert_eq!(names(&store.root.join("snapshots")).unwrap().len(), 4, "nothing unfinished is left");
}

#[test]
fn a_root_is_owned_and_moded_as_its_topmost_layer_says() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let low = layer(&store, &[("./", "")]);
    let Upper { dir, .. } = store.prepare("one", &[low]).unwrap().upper.unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode(), 0o40750);
    let Upper { dir, .. } = store.prepare("bare", &[]).unwrap().upper.unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode(), 0o40755);
}

#[test]
fn a_sweep_removes_what_neither_a_snapshot_nor_the_caller_needs() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let [used, live, dead] = ["used", "live", "dead"].map(|name| layer(&store, &[(name, name)]));
    store.prepare("one", std::slice::from_ref(&used)).unwrap();
    for dir in ["layers/.part-1-1/x", "snapshots/.part-1-2/upper", "trash/.part-1-3/y"] {
        fs::create_dir_all(store.root.join(dir)).unwrap();
    }
    let swept = store.sweep(|| vec![live.clone()]).unwrap();
    assert_eq!(swept, Swept { layers: vec![dead.clone()], unfinished: 3 });
    assert!(store.has(&used).unwrap() && store.has(&live).unwrap() && !store.has(&dead).unwrap());
    assert!(store.remove("one").unwrap() && !store.remove("one").unwrap());
    assert_eq!(store.sweep(nobody).unwrap().layers.len(), 2);
    assert_eq!(rest(&store), [""; 0]);
}

#[test]
fn a_damaged_record_stops_a_sweep_and_its_snapshot_can_be_removed() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let used = layer(&store, &[("a", "")]);
    store.prepare("one", std::slice::from_ref(&used)).unwrap();
    let path = store.root.join("snapshots/one/record.json");
    let good = fs::read_to_string(&path).unwrap();
    for (bad, want) in [
        ("", format!("read {}", path.display())),
        (
            &good.replace("\"version\":1", "\"version\":2"),
            format!("read {}: version 2 is not known here", path.display()),
        ),
    ] {
        fs::write(&path, bad).unwrap();
        assert_eq!(store.sweep(nobody).expect_err("who knows what it needs").to_string(), want);
        assert_eq!(store.get("one").expect_err("a damaged record").to_string(), want);
    }
    assert!(store.has(&used).unwrap());
    assert!(store.remove("one").unwrap());
    assert_eq!(store.sweep(nobody).unwrap().layers, [used]);
}

#[test]
fn usage_counts_blocks_and_inodes_once_however_deep() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let Upper { dir, .. } = store.prepare("one", &[]).unwrap().upper.unwrap();
    assert_eq!(store.usage("one").unwrap().unwrap().inodes, 1);
    fs::write(dir.join("file"), vec![1; 100_000]).unwrap();
    fs::hard_link(dir.join("file"), dir.join("second")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
    let mut at = std::os::fd::OwnedFd::from(File::open(&dir).unwrap());
    for _ in 0..2000 {
        rustix::fs::mkdirat(&at, "deep", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        at = rustix::fs::openat(&at, "deep", flags, rustix::fs::Mode::empty()).unwrap();
    }
    let usage = store.usage("one").unwrap().unwrap();
    assert_eq!(usage.inodes, 2003);
    assert!((100_000..20_000_000).contains(&usage.bytes), "{usage:?}");
    assert_eq!(store.usage("two").unwrap(), None);
    store.view("see", &[]).unwrap();
    assert_eq!(store.usage("see").unwrap(), Some(Usage::default()));
    assert!(store.remove("one").unwrap());
    assert_eq!(rest(&store), ["see"]);
}

#[test]
fn a_snapshot_that_is_made_while_others_sweep_has_its_layers() {
    if is_not_root() {
        return;
    }
    let (_dir, store) = store();
    let bytes = archive(&[("a", "1")]);
    let diff_id = digest::of(&bytes);
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut made = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    store.sweep(nobody).expect("a sweep");
                }
            });
        }
        for n in 0..60 {
            unpack_archive(&store, bytes.clone()).expect("a good layer");
            let id = format!("s{n}");
            match store.prepare(&id, std::slice::from_ref(&diff_id)) {
                Ok(overlay) => {
                    made += 1;
                    assert!(overlay.lower[0].join("a").is_file(), "round {n}");
                    assert!(store.remove(&id).expect("removed"));
                }
                Err(Error::Missing { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // One that nobody can take the layer from.
        while !store.has(&diff_id).expect("looked at")
            || store.prepare("last", std::slice::from_ref(&diff_id)).is_err()
        {
            unpack_archive(&store, bytes.clone()).expect("a good layer");
        }
        store.sweep(nobody).expect("a sweep");
        assert!(store.has(&diff_id).expect("looked at"), "{made} were made before");
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_image_is_unpacked_in_parallel_and_fails_as_a_whole() {
    if is_not_root() {
        return;
    }
    let (dir, store) = store();
    let content = kit_oci::store::Store::open(dir.path().join("content")).unwrap();
    let put = |bytes: &[u8]| {
        let file = dir.path().join("blob");
        fs::write(&file, bytes).unwrap();
        let digest = digest::of(bytes);
        let target = dir.path().join("content/blobs/sha256").join(digest.digest());
        fs::rename(file, target).unwrap();
        let media = oci_spec::image::MediaType::ImageLayer;
        oci_spec::image::Descriptor::new(media, bytes.len() as u64, digest)
    };
    let mut layers: Vec<ImageLayer> = (0..6)
        .map(|n| archive(&[(&format!("{n}"), "x")]))
        .map(|bytes| ImageLayer { blob: put(&bytes), diff_id: digest::of(&bytes) })
        .collect();
    layers.push(layers[0].clone());
    let threads = NonZeroUsize::new(3).unwrap();
    let unpack =
        |layers: &[ImageLayer]| store.unpack_image(&content, layers, threads, &unpack::Options::default());
    assert_eq!(unpack(&layers[..2]).unwrap(), 2);
    assert_eq!(unpack(&layers).unwrap(), 4);
    assert_eq!(unpack(&[]).unwrap(), 0);
    let wrong = ImageLayer { diff_id: digest::of(b"wrong"), ..layers[0].clone() };
    let error = unpack(&[wrong.clone(), layers[1].clone()]).expect_err("a wrong diff ID");
    assert_eq!(error.to_string(), format!("unpack the layer {}", wrong.diff_id));
    assert_eq!(names(&store.root.join("layers")).unwrap().len(), 6);
}

/// This test program, to run one of its tests with a directory.
fn this_test(program: &str, before: &[&str], test: &str, dir: &Path) -> Command {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(if program.is_empty() { this.as_path() } else { Path::new(program) });
    if !program.is_empty() {
        command.args(before).arg(this);
    }
    command.args(["--exact", test, "--nocapture"]).env("KIT_TEST_DIR", dir);
    command
}
