//! Layers that mean no good, and disks that are full.

use super::*;

/// Says what it is told, and then zeros without end.
struct Endless<F> {
    at: u64,
    block: [u8; 512],
    next: F,
}

impl<F: FnMut(u64) -> [u8; 512]> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let within = (self.at % 512) as usize;
        if within == 0 {
            self.block = (self.next)(self.at / 512);
        }
        let n = (&self.block[within..]).read(buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn endless<F: FnMut(u64) -> [u8; 512] + Send + 'static>(next: F) -> Verifying<Endless<F>> {
    let stream = Endless { at: 0, block: [0; 512], next };
    Verifying::new(stream, digest::of(b"never reached"), None).expect("sha256")
}

#[test]
fn entries_do_not_leave_the_directory() {
    let file = |name: &str| Member::file(name, "dead");
    let soft = |name: &str, to: &str| Member::link(b'2', name, to);
    let hard = |name: &str, to: &str| Member::link(b'1', name, to);
    let (long, deep) = ("n".repeat(256), vec!["n"; 2100].join("/"));
    let cases = [
        (vec![file("../canary")], "path `../canary` leaves the root by `..`"),
        (vec![file("d/../../canary")], "leaves the root by `..`"),
        (vec![file(&long)], "a name of 256 bytes, at most 255 are possible"),
        (vec![file(&deep)], "a path of 4199 bytes, at most 4095 are possible"),
        (vec![soft("s", ".."), file("s/canary")], "put `/s/canary`: `/s` is a symbolic link"),
        (vec![Member::dir("d"), soft("d", "../.."), file("d/canary")], "`/d` is a symbolic link"),
        (vec![soft("s", "../../canary"), hard("l", "s"), file("l/x")], "`/l` is a symbolic link"),
        (vec![file("f"), file("f/x")], "put `/f/x`: `/f` is no directory in this layer"),
        (vec![hard("l", "../canary")], "its target cannot be used: path `../canary` leaves the root"),
        (vec![hard("l", "/etc/passwd")], "link `/l`: its target `/etc/passwd` is not in this layer"),
        (vec![soft("s", "../.."), hard("l", "s/canary")], "is below what is no directory in this layer"),
        (vec![Member::dir("d"), hard("l", "d")], "link `/l`: its target `/d` is a directory"),
        (vec![file("d/x"), hard("d", "d/x")], "its target `/d/x` is below the link itself"),
    ];
    if is_not_root() {
        return;
    }
    for (members, want) in cases {
        let ground = Ground::new();
        let why = ground.refused(&members);
        assert!(why.contains(want), "{why}\n  instead of {want}");
    }
}

#[test]
fn a_link_that_an_entry_replaces_is_not_followed() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let canary = "../../canary";
    let members = [
        Member::link(b'2', "file", canary),
        Member { mode: 0o7777, uid: 9, ..Member::file("file", "dead") },
        Member { uid: 9, mtime: 9, ..Member::link(b'2', "link", canary) },
        Member::link(b'1', "second", "link"),
        Member::link(b'2', "third", canary),
        Member::link(b'1', "third", "file"),
    ];
    ground.members(&members).expect("a good layer");
    let meta = fs::metadata(ground.0.path().join("canary")).expect("it is there");
    assert_eq!((meta.uid(), meta.mode() & 0o6000, meta.nlink()), (0, 0, 1));
    assert_eq!(fs::read_to_string(ground.0.path().join("canary")).expect("read"), "alive");
    assert!(fs::symlink_metadata(ground.at("second")).expect("it is there").is_symlink());
    assert_eq!(fs::read_to_string(ground.at("third")).expect("read"), "dead");
}

#[test]
fn attributes_of_overlayfs_are_not_taken_from_a_layer() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let attribute = |member: Member, name: &str| member.record(&format!("SCHILY.xattr.{name}"), "/secret");
    let members = [
        attribute(Member::dir("d"), "trusted.overlay.redirect"),
        attribute(Member::file("f", ""), "trusted.overlay.metacopy"),
        attribute(Member::file("g", ""), "user.overlay.whiteout"),
    ];
    ground.members(&members).expect("a good layer");
    assert_eq!(xattr(&ground.at("d"), "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&ground.at("f"), "trusted.overlay.metacopy"), None);
    assert_eq!(xattr(&ground.at("g"), "user.overlay.whiteout"), None);
}

#[test]
fn ten_gigabytes_of_zeros_in_ten_megabytes_end_at_the_limit() {
    let ground = Ground::new();
    // 640 files of 16 MiB: a header, then zeros.
    let file = |n: usize| {
        let member = Member { data: vec![0; 16 << 20], ..Member::new(b'0', format!("{n}")) };
        zstd::encode_all(&member.write(Format::Ustar)[..], 1).expect("memory takes it")
    };
    let blob: Vec<u8> = (0..640).flat_map(|n| if n < 8 { file(n) } else { file(8) }).collect();
    assert!(blob.len() < 10 << 20, "{} bytes", blob.len());
    let layer = Options { max_total: 64 << 20, ..Options::default() };
    let how = How { layer, ..How::default() };
    let stream = Verifying::new(Cursor::new(blob.clone()), digest::of(&blob), None).expect("sha256");
    let why = unpack(stream, &digest::of(b""), &ground.to(), &how).map_err(|error| chain(&error));
    let why = why.expect_err("too much");
    assert!(why.contains("entry `4` (header at byte"), "{why}");
    assert!(
        why.contains("the sum of all files in bytes of 83886080 is more than the 67108864 allowed"),
        "{why}"
    );
    ground.is_untouched();
}

#[test]
fn zeros_after_the_end_of_the_archive_end_at_the_limit() {
    let ground = Ground::new();
    let how = How { max_archive: 8 << 20, ..How::default() };
    let why =
        unpack(endless(|_| [0; 512]), &digest::of(b""), &ground.to(), &how).map_err(|error| chain(&error));
    let why = why.expect_err("it has no end");
    assert!(why.contains("the archive is longer than the 8388608 bytes allowed"), "{why}");
    ground.is_untouched();
}

#[test]
fn files_without_number_end_at_the_limit() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let stream = endless(|n| Member::new(b'0', format!("{n}")).header(Format::Ustar));
    let how = How { layer: Options { max_entries: 20_000, ..Options::default() }, ..How::default() };
    let why = unpack(stream, &digest::of(b""), &ground.to(), &how).map_err(|error| chain(&error));
    assert_eq!(why.expect_err("it has no end"), "the archive holds more than 20000 entries");
    ground.is_untouched();
}

#[test]
fn paths_end_at_the_limits() {
    let ground = Ground::new();
    let layer = Options { max_depth: 3, max_path: 10, ..Options::default() };
    let how = How { layer, ..How::default() };
    for (name, want) in [
        (
            "a/b/c/d",
            "entry `a/b/c/d` (header at byte 0) cannot be used: a path in names of 4 is more than the 3 allowed",
        ),
        ("long/names/x", "a path in bytes of 12 is more than the 10 allowed"),
    ] {
        let bytes = archive(Format::Ustar, &[Member::file(name, "")]);
        let why = ground.unpack(&bytes, &how).expect_err("over a limit");
        assert!(why.contains(want), "{why}");
        ground.is_untouched();
    }
    let link = archive(Format::Ustar, &[Member::link(b'1', "l", "a/b/c/d")]);
    let why = ground.unpack(&link, &how).expect_err("over a limit");
    assert!(why.contains("a target in names of 4 is more than the 3 allowed"), "{why}");
}

#[test]
fn the_deepest_path_that_a_layer_can_have_is_unpacked_and_removed() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let deep = vec!["n"; 2048].join("/");
    ground.members(&[Member::file(&deep, "bottom")]).expect("a good layer");
    let layers = fs::File::open(ground.layers()).expect("opened");
    discard(&layers, "one").expect("removed");
    // And replaced within a layer, and removed after a failure.
    let why = ground.refused(&[Member::file(&deep, ""), Member::file("n", ""), Member::file("n/x", "")]);
    assert_eq!(why, "put `/n/x`: `/n` is no directory in this layer");
    ground.refused(&[Member::file(&deep, ""), Member::file("../x", "")]);
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    if is_not_root() {
        return;
    }
    let Some(dir) = std::env::var_os("KIT_TEST_DIR") else {
        let dir = TempDir::new().expect("a directory");
        let test = "layer::tests::unpacking::hostile::a_full_disk_is_an_error_that_leaves_nothing";
        within_a_mount(test, "mount -t tmpfs -o size=1m,nr_inodes=100 kit \"$0\"", dir.path());
        return;
    };
    let to = Path::new(&dir).join("one");
    let bytes = |members: &[Member]| archive(Format::Pax, members);
    let large = bytes(&[Member::file("small", "x"), Member::file("large", vec![1; 2 << 20])]);
    let many: Vec<Member> = (0..200).map(|n| Member::file(format!("{n}"), "")).collect();
    for (bytes, want) in [(large, "write the file `/large`: "), (bytes(&many), "create the file `/")] {
        let stream = Verifying::new(Cursor::new(bytes.clone()), digest::of(&bytes), None).expect("sha256");
        let why = unpack(stream, &digest::of(&bytes), &to, &How::default()).map_err(|error| chain(&error));
        let why = why.expect_err("a full disk");
        assert!(why.starts_with(want) && why.contains("No space left on device"), "{why}");
        assert_eq!(names(Path::new(&dir)), [""; 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn mutated_archives_leave_a_layer_or_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        if is_not_root() {
            return Ok(());
        }
        let mut bytes = fuzzing::everything();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let header = at / 512 * 512;
            if bytes[header + 257..header + 262] == *b"ustar" {
                writer::seal(&mut bytes[header..header + 512]);
            }
        }
        let ground = Ground::new();
        let layer = Options { max_file: 1 << 20, max_total: 4 << 20, ..Options::default() };
        let how = How { layer, max_archive: 1 << 20, ..How::default() };
        match ground.unpack(&bytes, &how) {
            Ok(_) => prop_assert_eq!(names(&ground.layers()), ["one"]),
            Err(_) => ground.is_untouched(),
        }
    }
}
