//! Overlays in a mount namespace of their own.

use super::*;

/// Runs a test again in a mount namespace of its own; the store's directory if this is that run.
fn alone(test: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("KIT_TEST_DIR") {
        return Some(dir.into());
    }
    if is_not_root() {
        return None;
    }
    let dir = TempDir::new().expect("a directory");
    let test = format!("snapshot::tests::mounted::{test}");
    match this_test("unshare", &["--mount"], &test, dir.path()).output() {
        Err(error) => println!("skipped: unshare (package util-linux): {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("1 passed"), "the test was run: {said}");
            said.lines().filter(|line| line.starts_with("skipped: ")).for_each(|line| println!("{line}"));
        }
    }
    None
}

/// A store over which overlays can be mounted; none, and said so, if that cannot be here.
fn mountable(root: PathBuf) -> Option<Store> {
    let store = Store::open(root).expect("a store");
    match store.check() {
        Ok(()) => Some(store),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[test]
fn an_overlay_shows_what_its_layers_come_to() {
    let Some(dir) = alone("an_overlay_shows_what_its_layers_come_to") else { return };
    let Some(store) = mountable(dir.join("store")) else { return };
    let layers = [
        layer(
            &store,
            &[
                ("etc/", ""),
                ("etc/kept", "1"),
                ("etc/gone", "1"),
                ("etc/new", "1"),
                ("opt/old", "1"),
                ("var/a/b", "1"),
                ("was-dir/x", "1"),
            ],
        ),
        layer(
            &store,
            &[
                ("etc/.wh.gone", ""),
                ("etc/new", "2"),
                ("opt/.wh..wh..opq", ""),
                ("opt/fresh", "2"),
                (".wh.var", ""),
                ("was-dir", "2"),
                (".wh.was-dir", ""),
            ],
        ),
        layer(&store, &[("var/c", "3"), ("etc/top", "3")]),
    ];
    let target = dir.join("root");
    fs::create_dir(&target).unwrap();
    let overlay = store.prepare("one", &layers).unwrap();
    overlay.mount(&target).unwrap();
    assert_eq!(names(&target).unwrap(), ["etc", "opt", "var", "was-dir"]);
    assert_eq!(names(&target.join("etc")).unwrap(), ["kept", "new", "top"]);
    assert_eq!(names(&target.join("opt")).unwrap(), ["fresh"]);
    assert_eq!(names(&target.join("var")).unwrap(), ["c"]);
    assert_eq!(read(target.join("etc/new")).as_deref(), Some("2"));
    assert_eq!(read(target.join("was-dir")).as_deref(), Some("2"));

    fs::write(target.join("etc/written"), vec![1; 50_000]).unwrap();
    fs::remove_file(target.join("etc/kept")).unwrap();
    assert!(store.usage("one").unwrap().unwrap().bytes >= 50_000);
    assert_eq!(
        store.usage("one").unwrap().unwrap().inodes,
        4,
        "the root, etc, what was written and a whiteout"
    );

    let seen = dir.join("view");
    fs::create_dir(&seen).unwrap();
    store.view("see", &layers[..2]).unwrap().mount(&seen).unwrap();
    assert_eq!(
        names(&seen.join("etc")).unwrap(),
        ["kept", "new"],
        "a layer does not see what a container writes"
    );
    assert!(
        fs::write(seen.join("etc/new"), "x")
            .is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    );
    let alone = dir.join("alone");
    fs::create_dir(&alone).unwrap();
    store.view("lowest", &layers[1..2]).unwrap().mount(&alone).unwrap();
    assert!(!alone.join("etc/gone").exists(), "a whiteout is nothing");

    for mount in [&target, &seen, &alone] {
        rustix::mount::unmount(mount.as_path(), rustix::mount::UnmountFlags::empty()).unwrap();
    }
    // What it wrote is there again, and then gone for good.
    store.get("one").unwrap().unwrap().mount(&target).unwrap();
    assert!(target.join("etc/written").exists() && !target.join("etc/kept").exists());
    rustix::mount::unmount(target.as_path(), rustix::mount::UnmountFlags::empty()).unwrap();
    for id in store.list().unwrap() {
        assert!(store.remove(&id).unwrap());
    }
    assert_eq!(store.sweep(nobody).unwrap().layers.len(), 3);
    assert_eq!(rest(&store), [""; 0]);
}

#[test]
fn many_layers_below_a_long_path_are_mounted_by_new_kernels_and_old() {
    let Some(dir) = alone("many_layers_below_a_long_path_are_mounted_by_new_kernels_and_old") else { return };
    // Longer than an option may be, with all that separates options.
    let long = dir.join("a:b,c\\d").join("n".repeat(200)).join("m".repeat(100));
    let Some(store) = mountable(long.join("store")) else { return };
    let layers: Vec<Digest> =
        (0..150).map(|n| layer(&store, &[(&format!("f{n}"), "x"), ("same", &format!("{n}"))])).collect();
    let overlay = store.prepare("one", &layers).unwrap();
    let target = dir.join("root");
    fs::create_dir(&target).unwrap();
    let look = || {
        assert_eq!(names(&target).unwrap().len(), 151);
        assert_eq!(read(target.join("same")).as_deref(), Some("149"));
        fs::write(target.join("written"), "x").unwrap();
        fs::remove_file(target.join("written")).unwrap();
        rustix::mount::unmount(target.as_path(), rustix::mount::UnmountFlags::empty()).unwrap();
    };
    overlay.mount(&target).unwrap();
    look();
    overlay.mount_classic(&target).unwrap();
    look();
    // One layer goes another way through the options.
    for layers in [&layers[..1], &layers[..0]] {
        let id = format!("few{}", layers.len());
        store.prepare(&id, layers).unwrap().mount(&target).unwrap();
        assert_eq!(names(&target).unwrap().len(), 2 * layers.len());
        rustix::mount::unmount(target.as_path(), rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

#[test]
fn a_store_that_cannot_carry_overlays_says_why() {
    let Some(dir) = alone("a_store_that_cannot_carry_overlays_says_why") else { return };
    let Some(store) = mountable(dir.join("store")) else { return };
    let target = dir.join("root");
    fs::create_dir(&target).unwrap();
    store.prepare("one", &[]).unwrap().mount(&target).unwrap();
    let inner = Store::open(target.join("store")).unwrap();
    let why = inner.check().expect_err("an overlay over an overlay").to_string();
    let want = format!(
        "overlays over {} are not possible: it lies on an overlay itself, which cannot hold what another one writes",
        target.join("store").display()
    );
    assert_eq!(why, want);
    assert_eq!(rest(&inner), [""; 0], "a check leaves nothing");
    // Whoever mounts all the same gets the kernel's word.
    let mounted = dir.join("mounted");
    fs::create_dir(&mounted).unwrap();
    let error = inner.prepare("two", &[]).unwrap().mount(&mounted).expect_err("an overlay over an overlay");
    assert!(
        error.to_string().starts_with(&format!("mount an overlay of 1 layers on {}", mounted.display())),
        "{error}"
    );
}
