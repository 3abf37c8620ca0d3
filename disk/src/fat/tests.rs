use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::process::Command;

/// A volume as the tests' own reader understands it: by the specification, from the bytes alone.
struct Volume<'a> {
    bytes: &'a [u8],
    kind: Kind,
    cluster: usize,
    fat_at: usize,
    root_at: usize,
    data_at: usize,
    clusters: usize,
}

impl<'a> Volume<'a> {
    fn open(bytes: &'a [u8]) -> Self {
        assert_eq!(bytes[510..512], [0x55, 0xaa]);
        let le16 = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let le32 = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let or = |small, large| if small != 0 { small } else { large };
        let (cluster, reserved, root_entries) = (bytes[13] as usize * 512, le16(14), le16(17));
        let (total, fat) = (or(le16(19), le32(32)), or(le16(22), le32(36)));
        assert_eq!(total * 512, bytes.len());
        let root_at = (reserved + 2 * fat) * 512;
        let data_at = root_at + root_entries * 32;
        let clusters = (bytes.len() - data_at) / cluster;
        let kind = match clusters {
            0..4085 => Kind::Fat12,
            4085..65525 => Kind::Fat16,
            _ => Kind::Fat32,
        };
        let fat_at = reserved * 512;
        assert!(bytes[fat_at..fat_at + fat * 512] == bytes[fat_at + fat * 512..root_at], "the FATs differ");
        Self { bytes, kind, cluster, fat_at, root_at, data_at, clusters }
    }

    fn next(&self, cluster: usize) -> usize {
        let le16 = |at: usize| usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        match self.kind {
            Kind::Fat12 => le16(self.fat_at + cluster * 3 / 2) >> (4 * (cluster & 1)) & 0xfff,
            Kind::Fat16 => le16(self.fat_at + 2 * cluster),
            Kind::Fat32 => le16(self.fat_at + 4 * cluster) | le16(self.fat_at + 4 * cluster + 2) << 16,
        }
    }

    fn chain(&self, first: usize) -> Vec<u8> {
        let last = [0xff8, 0xfff8, 0x0fff_fff8][self.kind as usize];
        let (mut data, mut cluster) = (Vec::new(), first);
        while cluster < last {
            assert!((2..self.clusters + 2).contains(&cluster), "cluster {cluster}");
            data.extend(&self.bytes[self.data_at + (cluster - 2) * self.cluster..][..self.cluster]);
            cluster = self.next(cluster);
        }
        data
    }

    fn root(&self) -> Vec<u8> {
        match self.kind {
            Kind::Fat32 => self.chain(u32::from_le_bytes(self.bytes[44..48].try_into().unwrap()) as usize),
            _ => self.bytes[self.root_at..self.data_at].to_vec(),
        }
    }

    /// Every path with its contents; directories have none. Also the first cluster's offset.
    fn files(&self) -> BTreeMap<String, Option<(usize, Vec<u8>)>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![(String::new(), self.root())];
        while let Some((prefix, directory)) = todo.pop() {
            let mut long: Vec<u16> = Vec::new();
            for entry in directory.chunks(32).take_while(|e| e[0] != 0) {
                if entry[11] == 0x0f {
                    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
                    let units = places.map(|n| u16::from_le_bytes([entry[n], entry[n + 1]]));
                    let part: Vec<u16> = units.take_while(|u| *u != 0).collect();
                    long.splice(..0, part);
                    continue;
                }
                let short = String::from_utf8(entry[..11].to_vec()).unwrap();
                let (base, extension) = (short[..8].trim_end(), short[8..].trim_end());
                let dot = if extension.is_empty() { "" } else { "." };
                let name = match long.is_empty() {
                    true => format!("{base}{dot}{extension}"),
                    false => String::from_utf16(&std::mem::take(&mut long)).unwrap(),
                };
                let first = usize::from(u16::from_le_bytes([entry[26], entry[27]]))
                    | usize::from(u16::from_le_bytes([entry[20], entry[21]])) << 16;
                let len = u32::from_le_bytes(entry[28..32].try_into().unwrap()) as usize;
                let path = format!("{prefix}{name}");
                if entry[11] & 0x08 != 0 || base.starts_with('.') {
                    continue;
                } else if entry[11] & 0x10 != 0 {
                    todo.push((format!("{path}/"), self.chain(first)));
                    found.insert(path, None);
                } else {
                    let mut data = if len > 0 { self.chain(first) } else { Vec::new() };
                    assert_eq!(data.len(), len.next_multiple_of(self.cluster));
                    data.truncate(len);
                    let at = self.data_at + first.saturating_sub(2) * self.cluster;
                    found.insert(path, Some((at, data)));
                }
            }
        }
        found
    }
}

/// Recognisable bytes for the `n`th file.
fn content(n: usize, len: u64) -> Vec<u8> {
    (0..len).map(|i| (i / 512 * 7 + i + n as u64 * 13) as u8).collect()
}

fn write(entries: &[Entry], layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    layout
        .write(&mut out, |n, sink| match entries[n].content {
            Content::File(len) => Ok(sink.write_all(&content(n, len))?),
            Content::Directory => unreachable!("a directory was opened"),
        })
        .unwrap();
    assert_eq!(out.len() as u64, layout.size());
    let used = layout.used() as usize;
    // Compared by blocks: byte by byte is slow unoptimised.
    assert!(
        out[used..].chunks(4096).all(|block| *block == [0; 4096][..block.len()]),
        "bytes after the used part"
    );
    out
}

/// Checks everything that the tests' reader sees against what was asked for.
fn check(entries: &[Entry], options: &Options) -> (Layout, Vec<u8>) {
    let layout = Layout::new(entries, options).unwrap();
    let bytes = write(entries, &layout);
    let volume = Volume::open(&bytes);
    assert_eq!((volume.kind, volume.cluster as u64), (layout.kind(), layout.cluster_size()));
    // A directory keeps the case of the path that came first.
    let mut found: BTreeMap<_, _> =
        volume.files().into_iter().map(|(path, f)| (name::fold(&path), f)).collect();
    for (n, entry) in entries.iter().enumerate() {
        match (entry.content, found.remove(&name::fold(&entry.path))) {
            (Content::Directory, Some(None)) => {}
            (Content::File(len), Some(Some((at, data)))) => {
                assert!(data == content(n, len), "content of {}", entry.path);
                match layout.offset(n) {
                    Some(offset) => {
                        assert_eq!(offset, at as u64);
                        assert_eq!(offset % options.alignment, 0, "alignment of {}", entry.path);
                    }
                    None => assert_eq!(len, 0),
                }
            }
            (asked, got) => panic!("{}: asked for {asked:?}, found {:?}", entry.path, got.is_some()),
        }
    }
    let above = |path: &str| entries.iter().any(|e| name::fold(&e.path).starts_with(&format!("{path}/")));
    assert!(found.iter().all(|(path, file)| file.is_none() && above(path)), "more than asked for");
    (layout, bytes)
}

fn sample() -> Vec<Entry> {
    vec![
        Entry::file("EFI/BOOT/BOOTX64.EFI", 70_001),
        Entry::file("EFI/Linux/kit.efi", 1),
        Entry::file("loader/entries/a rather long name, with Ünïcödé \u{1f427}.conf", 2048),
        Entry::file("empty", 0),
        Entry::directory("loader/keys"),
        Entry::file("LONGFI~1.TXT", 3),
        Entry::file("longfilename.txt", 512),
        Entry::file("longfilename.textual", 513),
    ]
}

fn options(kind: Kind) -> Options {
    Options {
        kind: Some(kind),
        label: Some("KIT ESP".into()),
        volume_id: 0x1234_abcd,
        epoch: 1_600_000_001,
        ..Options::default()
    }
}

#[test]
fn every_kind_holds_what_was_put_in() {
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        let (layout, _) = check(&sample(), &options(kind));
        assert_eq!(layout.kind(), kind);
        check(&sample(), &Options { alignment: 2048, ..options(kind) });
    }
}

#[test]
fn the_smallest_volume_has_no_free_cluster() {
    let (layout, bytes) = check(&[Entry::file("A", 700_000)], &Options::default());
    assert_eq!((layout.kind(), layout.used()), (Kind::Fat12, bytes.len() as u64));
    let (empty, _) = check(&[], &Options::default());
    assert_eq!(empty.kind(), Kind::Fat12);
}

#[test]
fn the_kind_follows_the_size() {
    for (mib, kind, cluster) in [
        (1, Kind::Fat12, 512),
        (8, Kind::Fat16, 512),
        (17, Kind::Fat16, 512),
        (64, Kind::Fat16, 1024),
        (600, Kind::Fat32, 4096),
    ] {
        let options = Options { size: Size::Exactly(mib << 20), ..Options::default() };
        let layout = Layout::new(&[Entry::file("A", 100_000)], &options).unwrap();
        assert_eq!((layout.kind(), layout.cluster_size()), (kind, cluster), "{mib} MiB");
        assert_eq!(layout.size(), mib << 20);
    }
}

#[test]
fn a_fat32_volume_is_never_under_its_least_number_of_clusters() {
    let layout = Layout::new(&[], &options(Kind::Fat32)).unwrap();
    let volume_bytes = write(&[], &layout);
    assert!(Volume::open(&volume_bytes).clusters >= 65_525);
    let too_small = Options { size: Size::Exactly(32 << 20), ..options(Kind::Fat32) };
    assert_eq!(
        Layout::new(&[], &too_small).unwrap_err().to_string(),
        "no FAT volume of 33554432 bytes (kind Some(Fat32)) holds content of 512 bytes"
    );
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let refused = |entries: &[Entry]| Layout::new(entries, &Options::default()).unwrap_err().to_string();
    let file = |path: &str| Entry::file(path, 1);
    for (entries, why) in [
        (vec![file("/a")], "FAT path \"/a\": a component is empty, \".\" or \"..\""),
        (vec![file("a/../b")], "FAT path \"a/../b\": a component is empty, \".\" or \"..\""),
        (vec![file("a?")], "FAT path \"a?\": '?' cannot be part of a name"),
        (vec![file("a"), file("A")], "FAT path \"A\" is there twice, perhaps in another case"),
        (vec![file("ä"), file("Ä")], "FAT path \"Ä\" is there twice, perhaps in another case"),
        (vec![file("a"), file("a/b")], "FAT path \"a/b\" is there twice, perhaps in another case"),
        (vec![file("a/b"), file("a")], "FAT path \"a\" is there twice, perhaps in another case"),
        (
            vec![Entry::file("big", 1 << 32)],
            "FAT path \"big\": 4294967296 bytes, but a file has at most 4294967295",
        ),
    ] {
        assert_eq!(refused(&entries), why);
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let refused = |options: Options| Layout::new(&[], &options).unwrap_err();
    let label = |text: &str| Options { label: Some(text.into()), ..Options::default() };
    for text in ["", "lower", "TWELVE CHARS", "A/B", " A"] {
        assert!(matches!(refused(label(text)), LayoutError::Label { .. }), "{text:?}");
    }
    let size = Options { size: Size::Exactly(1_000_000), ..Options::default() };
    assert_eq!(refused(size), LayoutError::Size { size: 1_000_000 });
    for alignment in [0, 3, 2 << 20] {
        let options = Options { alignment, ..Options::default() };
        assert_eq!(refused(options), LayoutError::Alignment { alignment });
    }
}

#[test]
fn content_of_another_length_is_an_error_that_names_the_file() {
    let layout = Layout::new(&[Entry::file("d/a", 3)], &Options::default()).unwrap();
    let err = layout.write(&mut Vec::new(), |_, sink| Ok(sink.write_all(b"hi")?)).unwrap_err();
    assert_eq!(err.to_string(), "write FAT file \"d/a\"");
    assert!(matches!(err, WriteError::File { source: ContentError::Short { .. }, .. }));
}

#[test]
fn files_are_found_at_the_offsets_of_the_layout_and_only_the_used_part_need_be_written() {
    let options = Options { size: Size::Exactly(40 << 20), alignment: 2048, ..options(Kind::Fat32) };
    let (layout, bytes) = check(&sample(), &options);
    let at = layout.offset(0).unwrap() as usize;
    assert_eq!(&bytes[at..at + 70_001], content(0, 70_001));
    assert_eq!((layout.offset(3), layout.offset(4), layout.offset(99)), (None, None, None));
    let mut used = Vec::new();
    let entries = sample();
    let len = |n: usize| match entries[n].content {
        Content::File(len) => len,
        Content::Directory => 0,
    };
    layout.write_used(&mut used, |n, sink| Ok(sink.write_all(&content(n, len(n)))?)).unwrap();
    assert_eq!(used.len() as u64, layout.used());
    assert!(used.len() < 2 << 20);
    assert!(bytes.starts_with(&used));
}

#[test]
fn a_directory_may_take_many_clusters() {
    let entries: Vec<Entry> = (0..700)
        .map(|n| Entry::file(format!("many/a long name that differs at its end {n}"), n % 3))
        .chain((0..300).map(|n| Entry::file(format!("a root name that is long, too {n}"), 1)))
        .collect();
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        check(&entries, &options(kind));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_tree_is_found_again(
        files in prop::collection::vec(("[a-dA-Dé~.]{1,14}(/[a-c]{1,2}){0,2}", 0u64..9000), 0..25),
        alignment in 9u32..14,
        kind in prop::option::of(prop::sample::select(vec![Kind::Fat12, Kind::Fat16])),
    ) {
        let mut entries: Vec<Entry> = Vec::new();
        for (path, len) in files {
            let next = Entry::file(path, len);
            let mut with = entries.clone();
            with.push(next);
            // Paths that collide, or end in dots, are other tests' matter.
            if Layout::new(&with, &Options::default()).is_ok() {
                entries = with;
            }
        }
        check(&entries, &Options { kind, alignment: 1 << alignment, ..Options::default() });
    }

    #[test]
    fn any_wish_is_laid_out_or_refused_but_never_panics(
        size in any::<u64>(), bits in 0u32..64, len in 0u64..=1 << 32, grow in any::<bool>(),
        kind in prop::option::of(prop::sample::select(vec![Kind::Fat12, Kind::Fat16, Kind::Fat32])),
    ) {
        let size = size >> bits;
        let size = if grow { Size::AtLeast(size) } else { Size::Exactly(size & !511) };
        let _ = Layout::new(&[Entry::file("A", len)], &Options { kind, size, ..Options::default() });
    }

    #[test]
    fn any_size_is_met_exactly_or_refused(sectors in 0u64..140_000, kind in prop::option::of(
        prop::sample::select(vec![Kind::Fat12, Kind::Fat16, Kind::Fat32])
    ), alignment in 9u32..17) {
        let size = Size::Exactly(sectors * 512);
        let options = Options { kind, size, alignment: 1 << alignment, ..Options::default() };
        if let Ok(layout) = Layout::new(&[], &options) {
            prop_assert_eq!(layout.size(), sectors * 512);
            let bytes = write(&[], &layout);
            prop_assert_eq!(Volume::open(&bytes).kind, layout.kind());
        }
    }
}

/// The volume in a file of its own, with the output of a tool run on it; `None` where there is no such tool.
fn run(tool: &str, bytes: &[u8], args: impl Fn(&str) -> Vec<String>) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("volume");
    std::fs::write(&file, bytes).unwrap();
    let out = match Command::new(tool).args(args(file.to_str().unwrap())).env("TZ", "UTC").output() {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: {tool}: {e}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{tool}: {text}{}", String::from_utf8_lossy(&out.stderr));
    Some(text)
}

#[test]
fn fsck_finds_no_fault_in_any_kind() {
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        for alignment in [512, 2048, 65_536] {
            let (_, bytes) = check(&sample(), &Options { alignment, ..options(kind) });
            let args = |file: &str| vec!["-n".into(), "-v".into(), file.to_owned()];
            let Some(text) = run("fsck.vfat", &bytes, args) else { return };
            assert!(text.contains("14 files, "), "{text}");
            for complaint in ["differ", "wrong", "Dirty", "Reclaim", "Free cluster summary", "invalid"] {
                assert!(!text.contains(complaint), "{text}");
            }
        }
    }
}

#[test]
fn mtools_lists_and_copies_the_files() {
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        let (_, bytes) = check(&sample(), &options(kind));
        let list = |file: &str| vec!["-i".into(), file.to_owned(), "::".into()];
        let Some(text) = run("mdir", &bytes, list) else { return };
        for line in [
            "Volume in drive : is KIT ESP",
            "Volume Serial Number is 1234-ABCD",
            "LONGFI~2 TXT       512 2020-09-13  12:26  longfilename.txt",
            "LONGFI~1 TEX       513 2020-09-13  12:26  longfilename.textual",
            "empty                0 2020-09-13  12:26  empty",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            assert!(squeezed(&text).contains(&squeezed(line)), "{line} in {text}");
        }
        let copy = |file: &str| ["-n", "-i", file, "::EFI/BOOT/BOOTX64.EFI", "-"].map(str::to_owned).to_vec();
        // mcopy to "-" writes to its output, which is not text.
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("volume");
        std::fs::write(&image, &bytes).unwrap();
        let out = Command::new("mcopy").args(copy(image.to_str().unwrap())).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(out.stdout == content(0, 70_001));
    }
}
