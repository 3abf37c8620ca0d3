use super::*;
use crate::fat;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// A node as the tests' own reader finds it.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    identifiers: String,
    mode: u32,
    owner: (u32, u32),
    target: String,
    data: Option<(usize, Vec<u8>)>,
}

fn le32(bytes: &[u8], at: usize) -> usize {
    let (le, be) = (&bytes[at..at + 4], &bytes[at + 4..at + 8]);
    let value = u32::from_le_bytes(le.try_into().unwrap());
    assert_eq!(value, u32::from_be_bytes(be.try_into().unwrap()), "both byte orders at {at}");
    value as usize
}

/// Rock Ridge fields of a record, continuation included.
fn fields(image: &[u8], area: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 4 <= area.len() && area[at + 2] >= 4 {
        let field = &area[at..at + usize::from(area[at + 2])];
        at += field.len();
        if &field[..2] == b"CE" {
            let (block, offset, len) = (le32(field, 4), le32(field, 12), le32(field, 20));
            assert!(offset + len <= 2048, "a continuation crosses a block");
            found.extend(fields(image, &image[block * 2048 + offset..][..len]));
        } else {
            found.push(field.to_vec());
        }
    }
    found
}

/// Every path by its Rock Ridge name.
fn nodes(image: &[u8]) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    let root = &image[16 * 2048 + 156..][..34];
    let mut todo = vec![(String::new(), String::new(), le32(root, 2), le32(root, 10))];
    while let Some((path, identifiers, block, len)) = todo.pop() {
        assert_eq!(len % 2048, 0);
        let (directory, mut at, mut last) = (&image[block * 2048..][..len], 0, Vec::new());
        let mut n = 0;
        while at < len {
            let record = &directory[at..at + usize::from(directory[at])];
            if record.is_empty() {
                at = (at + 1).next_multiple_of(2048);
                continue;
            }
            assert!(at % 2048 + record.len() <= 2048, "a record crosses a block");
            at += record.len();
            n += 1;
            let id_len = usize::from(record[32]);
            let id = &record[33..33 + id_len];
            assert!(n < 3 || id > last.as_slice(), "records are not sorted");
            last = id.to_vec();
            if n < 3 {
                assert_eq!(id, [n - 1]);
                continue;
            }
            let (mut name, mut target, mut glue) = (String::new(), String::new(), "");
            let (mut mode, mut owner) = (0, (0, 0));
            for field in fields(image, &record[(33 + id_len).next_multiple_of(2)..]) {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                match &field[..2] {
                    b"NM" => name += &text(&field[5..]),
                    b"PX" => {
                        mode = le32(&field, 4) as u32;
                        owner = (le32(&field, 20) as u32, le32(&field, 28) as u32);
                    }
                    b"SL" => {
                        let mut rest = &field[5..];
                        while let [flags, len, tail @ ..] = rest {
                            let (part, tail) = tail.split_at(usize::from(*len));
                            target += glue;
                            target += &match flags {
                                8 => String::new(),
                                4 => "..".into(),
                                2 => ".".into(),
                                _ => text(part),
                            };
                            glue = if flags & 1 == 0 { "/" } else { "" };
                            rest = tail;
                        }
                    }
                    _ => {}
                }
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let identifiers = format!("{identifiers}/{}", String::from_utf8_lossy(id));
            let (block, len) = (le32(record, 2), le32(record, 10));
            let data = if record[25] & 2 != 0 {
                todo.push((path.clone(), identifiers.clone(), block, len));
                None
            } else {
                Some((block * 2048, image[block * 2048..][..len].to_vec()))
            };
            found.insert(path, Node { identifiers, mode, owner, target, data });
        }
    }
    found
}

fn options() -> Options {
    Options { volume_id: "KIT_TEST".into(), epoch: 1_600_000_000, ..Options::default() }
}

fn content(n: usize, len: u64) -> Vec<u8> {
    (0..len).map(|i| (i / 2048 * 3 + i + n as u64 * 11) as u8).collect()
}

/// What the closure writes for every file.
fn give(entries: &[Entry]) -> impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError> {
    move |n, sink| match entries[n].content {
        Content::File(len) => Ok(sink.write_all(&content(n, len))?),
        _ => unreachable!("only files are asked for"),
    }
}

fn build(entries: &[Entry], options: Options) -> (Layout, Vec<u8>) {
    let layout = Layout::new(entries.to_vec(), options).unwrap();
    let mut image = Vec::new();
    layout.write(&mut image, give(entries)).unwrap();
    assert_eq!(image.len() as u64, layout.size());
    (layout, image)
}

/// Checks what the tests' reader sees against what was asked for.
fn check(entries: &[Entry], layout: &Layout, image: &[u8]) -> BTreeMap<String, Node> {
    let found = nodes(image);
    for (n, entry) in entries.iter().enumerate() {
        let node = found.get(&entry.path).unwrap_or_else(|| panic!("{} is missing", entry.path));
        assert_eq!(node.mode & 0o7777, u32::from(entry.mode), "{}", entry.path);
        assert_eq!(node.owner, (entry.uid, entry.gid));
        let data = node.data.as_ref().map(|(at, data)| (*at as u64, data.as_slice()));
        match &entry.content {
            Content::Directory => assert!(data.is_none()),
            Content::Symlink(target) => assert_eq!(&node.target, target),
            Content::File(len) => {
                assert_eq!(data, Some((layout.offset(n).unwrap(), content(n, *len).as_slice())));
            }
            _ => assert_eq!(data.map(|(at, _)| at), layout.offset(n)),
        }
    }
    found
}

fn sample() -> Vec<Entry> {
    vec![
        Entry::new("boot/vmlinuz", Content::File(5000)),
        Entry::new("boot/a name that is rather longer than eight and three.conf", Content::File(1)),
        Entry { mode: 0o4755, uid: 1000, gid: 7, ..Entry::new("bin/tool", Content::File(2048)) },
        Entry::new("empty", Content::File(0)),
        Entry::new("bin/link", Content::Symlink("../usr/./bin/tool".into())),
        Entry::new("absolute", Content::Symlink("/etc/passwd".into())),
        Entry { mode: 0o1777, ..Entry::new("tmp", Content::Directory) },
        Entry::new("vmlinuz.part", Content::Part { of: 0, offset: 2048, len: 2952 }),
        Entry::new(format!("x/{}", "n".repeat(255)), Content::Symlink("t".repeat(1000))),
        Entry::new("small", Content::Bytes(b"bytes".to_vec())),
    ]
}

#[test]
fn everything_is_found_under_its_rock_ridge_name() {
    let entries = sample();
    let (layout, image) = build(&entries, options());
    let found = check(&entries, &layout, &image);
    assert_eq!(found["vmlinuz.part"].data.as_ref().unwrap().1, content(0, 5000)[2048..]);
    assert_eq!(found["small"].data.as_ref().unwrap().1, b"bytes");
    assert_eq!(found["boot/vmlinuz"].identifiers, "/BOOT/VMLINUZ.;1");
    assert_eq!(found["boot"].mode, 0o040_555);
    assert_eq!(found.len(), entries.len() + 3, "and nothing else but bin, boot and x");
}

#[test]
fn the_volume_descriptor_is_read_back() {
    let (layout, image) = build(&sample(), options());
    let volume = read_volume(&mut Cursor::new(&image)).unwrap();
    assert_eq!((volume.id.as_str(), volume.size), ("KIT_TEST", layout.size()));
    let err = read_volume(&mut Cursor::new(&image[..34_000])).unwrap_err();
    assert_eq!(err.to_string(), "read ISO 9660 descriptor at byte 32768");
    let mut other = image.clone();
    other[32_769] = b'X';
    let err = read_volume(&mut Cursor::new(&other)).unwrap_err();
    assert_eq!(err.to_string(), "no ISO 9660 volume: no descriptor at byte 32768");
    other = image;
    other[32_768] = 2;
    assert!(matches!(read_volume(&mut Cursor::new(&other)), Err(ReadError::NoPrimary)));
}

#[test]
fn a_file_written_in_place_gives_the_image_that_a_known_length_gives() {
    for hybrid in [false, true] {
        let esp = (
            Some(1),
            Some(Hybrid { code: None, signature: 7, disk_id: Guid::NIL, esp_id: Guid::from_u128(1) }),
        );
        let (uefi, hybrid) = if hybrid { esp } else { (None, None) };
        let options = Options { uefi, hybrid, ..options() };
        let entries = |content| {
            vec![
                Entry::new("root.squashfs", content),
                Entry::new("efi.img", Content::File(3000)),
                Entry::new("deep/below/z", Content::File(10)),
            ]
        };
        let layout = Layout::new(entries(Content::InPlace), options.clone()).unwrap();
        let mut out = Cursor::new(b"before".to_vec());
        out.set_position(6);
        let give = |n: usize, sink: &mut dyn Write| Ok(sink.write_all(&content(n, [0, 3000, 10][n]))?);
        let last = |window: &mut Window<'_, Cursor<Vec<u8>>>| {
            window.write_all(&[0; 96])?;
            window.write_all(&content(9, 9000))?;
            window.seek(SeekFrom::Start(0))?;
            Ok(window.write_all(&[0x73; 96])?)
        };
        let finished = layout.write_in_place(&mut out, give, last).unwrap();
        assert_eq!(out.position(), 6 + finished.size());
        let image = out.into_inner().split_off(6);
        let squashfs = [vec![0x73; 96], content(9, 9000)].concat();
        // The known length's file is put last, as the other one is.
        let mut known = entries(Content::Bytes(squashfs.clone()));
        known.rotate_left(1);
        let (_, same) = build(&known, Options { uefi: uefi.map(|n| n - 1), ..options });
        // Contents are by index, and indices differ.
        let data = |image: &[u8], path: &str| nodes(image)[path].data.clone().unwrap();
        assert_eq!(data(&image, "root.squashfs"), data(&same, "root.squashfs"));
        assert_eq!(data(&image, "root.squashfs").1, squashfs);
        assert!(image[..20 * 2048] == same[..20 * 2048], "descriptors differ");
        assert_eq!(image.len(), same.len());
        if finished.options.hybrid.is_some() {
            let found = crate::gpt::read(&mut Cursor::new(&image)).unwrap();
            assert_eq!(found.partitions[0].offset(), finished.offset(1).unwrap());
            assert_eq!(image.len() % (1 << 20), 0);
        }
    }
}

#[test]
fn the_two_ways_to_write_are_not_confused() {
    let in_place = Layout::new(vec![Entry::new("a", Content::InPlace)], options()).unwrap();
    let err = in_place.write(&mut Vec::new(), |_, _| Ok(())).unwrap_err();
    assert_eq!(err.to_string(), "entry to be written in place: Some(\"a\")");
    let known = Layout::new(vec![], options()).unwrap();
    let err = known.write_in_place(&mut Cursor::new(Vec::new()), |_, _| Ok(()), |_| Ok(())).unwrap_err();
    assert_eq!(err.to_string(), "entry to be written in place: None");
}

#[test]
fn volumes_that_cannot_be_are_refused() {
    let file = |path: &str| Entry::new(path, Content::File(1));
    let link = |len| Entry::new("l", Content::Symlink("x".repeat(len)));
    let part = |of, offset, len| Entry::new("p", Content::Part { of, offset, len });
    let place = |path: &str| Entry::new(path, Content::InPlace);
    for (entries, why) in [
        (vec![file("/a")], "ISO 9660 path \"/a\": a component is empty, \".\" or \"..\""),
        (vec![file("a\0")], "ISO 9660 path \"a\\0\": a component holds a NUL"),
        (
            vec![file("1/2/3/4/5/6/7/8/f")],
            "ISO 9660 path \"1/2/3/4/5/6/7/8/f\": directories are more than eight deep",
        ),
        (vec![file("a"), file("a")], "ISO 9660 path \"a\" is there twice"),
        (vec![file("a"), file("a/b")], "ISO 9660 path \"a/b\" is there twice"),
        (vec![file("a/b"), file("a")], "ISO 9660 path \"a\" is there twice"),
        (
            vec![Entry::new("b", Content::File(1 << 32))],
            "ISO 9660 path \"b\": 4294967296 bytes, but a file has at most 4294967295",
        ),
        (vec![link(1025)], "ISO 9660 path \"l\": a target of 1025 bytes, but at most 1024 are written"),
        (vec![link(0)], "ISO 9660 path \"l\": a target of 0 bytes, but at most 1024 are written"),
        (vec![part(0, 0, 1)], "ISO 9660 path \"p\": bytes 0+1 are no part, on a block, of entry 0"),
        (
            vec![file("a"), part(0, 0, 2)],
            "ISO 9660 path \"p\": bytes 0+2 are no part, on a block, of entry 0",
        ),
        (
            vec![file("a"), part(9, 0, 1)],
            "ISO 9660 path \"p\": bytes 0+1 are no part, on a block, of entry 9",
        ),
        (
            vec![file("a"), part(0, u64::MAX - 2047, 1)],
            "ISO 9660 path \"p\": bytes 18446744073709549568+1 are no part, on a block, of entry 0",
        ),
        (vec![place("a"), place("b")], "ISO 9660 path \"b\": another entry is written in place already"),
    ] {
        assert_eq!(Layout::new(entries, options()).unwrap_err().to_string(), why);
    }
    let err = Layout::new(vec![], Options { volume_id: "kit".into(), ..options() }).unwrap_err();
    assert_eq!(err.to_string(), "ISO 9660 volume identifier \"kit\" is not 1 to 32 of A-Z, 0-9 and _");
}

#[test]
fn boot_images_that_cannot_boot_are_refused() {
    let hybrid = Hybrid {
        code: Some(Box::new([0; HYBRID_CODE_LEN])),
        signature: 0,
        disk_id: Guid::NIL,
        esp_id: Guid::from_u128(1),
    };
    let entries = vec![
        Entry::new("file", Content::File(1)),
        Entry::new("tiny", Content::Bytes(vec![0; 64])),
        Entry::new("other", Content::Bytes(vec![0; 4096])),
        Entry::new("empty", Content::File(0)),
    ];
    let refused = |bios, uefi, hybrid| {
        Layout::new(entries.clone(), Options { bios, uefi, hybrid, ..options() }).unwrap_err().to_string()
    };
    assert_eq!(refused(Some(0), None, None), "entry 0 cannot be the BIOS boot image");
    assert_eq!(
        refused(Some(1), None, None),
        "a BIOS boot image of 64 bytes has no room for a boot-info table"
    );
    assert_eq!(refused(None, Some(3), None), "entry 3 cannot be the UEFI boot image");
    assert_eq!(refused(None, Some(9), None), "entry 9 cannot be the UEFI boot image");
    let not_hybrid = "the BIOS boot image is no isolinux.bin that isohybrid's code can start";
    assert_eq!(refused(Some(2), None, Some(hybrid.clone())), not_hybrid);
    assert_eq!(refused(None, Some(0), Some(hybrid)), not_hybrid);
}

#[test]
fn directories_of_many_blocks_keep_their_order() {
    let entries: Vec<Entry> = (0..600u64)
        .map(|n| Entry::new(format!("d{}/a long name with number {n}", n % 7), Content::File(n % 5)))
        .chain((0..200).map(|n| Entry::new(format!("dir {n}/sub"), Content::Directory)))
        .collect();
    let (layout, image) = build(&entries, options());
    check(&entries, &layout, &image);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_descriptor_is_read_without_a_panic(
        mut block in prop::collection::vec(any::<u8>(), 2048), kind in 0u8..3, count in 0usize..40
    ) {
        block[..7].copy_from_slice(b"\0CD001\x01");
        block[0] = kind;
        let device = [vec![0; 32_768], block.repeat(count)].concat();
        let _ = read_volume(&mut Cursor::new(device));
    }

    #[test]
    fn any_tree_is_found_again(
        files in prop::collection::vec(("[a-cA-Cé~.]{1,40}(/[a-c]{1,2}){0,3}", 0u64..5000, 0u16..0o7777), 0..30),
    ) {
        let mut entries: Vec<Entry> = Vec::new();
        for (path, len, mode) in files {
            let content = if len % 5 == 4 { Content::Symlink(path.clone()) } else { Content::File(len) };
            let mut with = entries.clone();
            with.push(Entry { mode, ..Entry::new(path, content) });
            if Layout::new(with.clone(), options()).is_ok() {
                entries = with;
            }
        }
        let (layout, image) = build(&entries, options());
        check(&entries, &layout, &image);
    }
}

/// isolinux.bin, isohybrid's MBR code.
fn isolinux() -> Option<(Vec<u8>, Box<[u8; HYBRID_CODE_LEN]>)> {
    let read = |path: &str| match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(e) => {
            println!("skipped: {path}: {e}");
            None
        }
    };
    let code = read("/usr/lib/ISOLINUX/isohdpfx.bin")?;
    Some((read("/usr/lib/ISOLINUX/isolinux.bin")?, Box::new(code.try_into().unwrap())))
}

/// A bootable image whose FAT volume holds a kernel that the ISO's tree refers to, and the kernel.
fn bootable(isolinux: Vec<u8>, code: Box<[u8; HYBRID_CODE_LEN]>) -> (Layout, Vec<u8>) {
    // Nothing in it repeats.
    let kernel: Vec<u8> = (0..25_000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let files = [fat::Entry::file("EFI/BOOT/BOOTX64.EFI", kernel.len() as u64)];
    let esp =
        fat::Layout::new(&files, &fat::Options { alignment: BLOCK, ..fat::Options::default() }).unwrap();
    let at = esp.offset(0).unwrap();
    let entries = vec![
        Entry::new("isolinux/isolinux.bin", Content::Bytes(isolinux)),
        Entry::new("boot/efi.img", Content::File(esp.size())),
        Entry::new("boot/vmlinuz", Content::Part { of: 1, offset: at, len: kernel.len() as u64 }),
    ];
    let hybrid = Hybrid {
        code: Some(code),
        signature: 0x1234_5678,
        disk_id: Guid::from_hash([1; 16]),
        esp_id: Guid::from_hash([2; 16]),
    };
    let options = Options { bios: Some(0), uefi: Some(1), hybrid: Some(hybrid), ..options() };
    let layout = Layout::new(entries, options).unwrap();
    let mut image = Vec::new();
    let give = |_: usize, sink: &mut dyn Write| Ok(esp.write(sink, |_, sink| Ok(sink.write_all(&kernel)?))?);
    layout.write(&mut image, give).unwrap();
    assert!(nodes(&image)["boot/vmlinuz"].data.as_ref().unwrap().1 == kernel);
    let once = image.windows(64).filter(|window| *window == &kernel[5000..5064]).count();
    assert_eq!(once, 1, "the kernel is in the image once");
    (layout, image)
}

/// The image in a file, and what a tool says of it.
fn run(
    tool: &str,
    image: &[u8],
    args: impl Fn(&str, &str) -> Vec<String>,
) -> Option<(tempfile::TempDir, String)> {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("image.iso"), dir.path().join("out"));
    std::fs::write(&file, image).unwrap();
    let args = args(file.to_str().unwrap(), out.to_str().unwrap());
    match Command::new(tool).args(args).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(output.status.success(), "{tool}: {text}");
            Some((dir, text))
        }
        Err(e) => {
            println!("skipped: {tool}: {e}");
            None
        }
    }
}

#[test]
fn xorriso_extracts_the_same_tree() {
    let entries = sample();
    let (_, image) = build(&entries, options());
    let args = |file: &str, out: &str| {
        ["-osirrox", "on", "-indev", file, "-extract", "/", out].map(str::to_owned).to_vec()
    };
    let Some((dir, text)) = run("xorriso", &image, args) else { return };
    assert!(text.contains("Volume id    : 'KIT_TEST'"), "{text}");
    for complaint in ["WARNING", "SORRY", "FAILURE", "FATAL"] {
        assert!(!text.contains(complaint), "{text}");
    }
    let is_root = dir.path().metadata().unwrap().uid() == 0;
    for (n, entry) in entries.iter().enumerate() {
        let path = dir.path().join("out").join(&entry.path);
        let found = path.symlink_metadata().unwrap();
        match &entry.content {
            Content::Symlink(target) => {
                assert_eq!(std::fs::read_link(&path).unwrap().to_str(), Some(target.as_str()))
            }
            Content::File(len) => assert!(std::fs::read(&path).unwrap() == content(n, *len)),
            _ => {}
        }
        if !matches!(entry.content, Content::Symlink(_)) {
            assert_eq!(found.mtime(), 1_600_000_000);
            // An ordinary user cannot give files away, and then set-id bits go.
            let mask = if is_root { 0o7777 } else { 0o777 };
            assert_eq!(found.mode() & mask, u32::from(entry.mode) & mask, "{}", entry.path);
        }
    }
}

#[test]
fn xorriso_sees_both_boot_images_the_hybrid_mbr_and_the_gpt() {
    let Some((isolinux, code)) = isolinux() else { return };
    let (layout, image) = bootable(isolinux, code);
    let args = |file: &str, _: &str| {
        let report = ["-report_el_torito", "plain", "-report_system_area", "plain"];
        [&["-indev", file], &report[..]].concat().into_iter().map(str::to_owned).collect()
    };
    let Some((_dir, text)) = run("xorriso", &image, args) else { return };
    let squeezed: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (bios, uefi) = (layout.offset(0).unwrap() / 2048, layout.offset(1).unwrap() / 2048);
    for line in [
        "Boot record : El Torito , MBR isohybrid cyl-align-off GPT".to_owned(),
        format!("El Torito boot img : 1 BIOS y none 0x0000 0x00 4 {bios}"),
        format!("El Torito boot img : 2 UEFI y none 0x0000 0x00 {} {uefi}", layout.extents[1].len / 512),
        "El Torito img opts : 1 boot-info-table isohybrid-suitable".into(),
        "El Torito img path : 2 /boot/efi.img".into(),
        format!("GPT start and size : 1 {} {}", uefi * 4, layout.extents[1].len / 512),
        "GPT partition path : 1 /boot/efi.img".into(),
        "GPT partition GUID : 1 02020202020202828202020202020202".into(),
    ] {
        assert!(squeezed.contains(&line), "{line}\n{text}");
    }
    let verify = |file: &str, _: &str| vec!["-v".to_owned(), file.to_owned()];
    if let Some((_dir, text)) = run("sgdisk", &image, verify) {
        assert!(text.contains("No problems found"), "{text}");
    }
}

#[test]
fn an_image_for_uefi_alone_has_its_boot_image_as_the_default_entry() {
    let entries = vec![Entry::new("efi.img", Content::File(4096))];
    let (_, image) = build(&entries, Options { uefi: Some(0), ..options() });
    assert!(image[..32_768].iter().all(|b| *b == 0), "a CD needs no system area");
    let args =
        |file: &str, _: &str| ["-indev", file, "-report_el_torito", "plain"].map(str::to_owned).to_vec();
    let Some((_dir, text)) = run("xorriso", &image, args) else { return };
    let squeezed: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed.contains("El Torito boot img : 1 UEFI y none 0x0000 0x00 8 23"), "{text}");
}

#[test]
fn an_image_for_bios_alone_has_one_active_partition_and_no_gpt() {
    let Some((isolinux, code)) = isolinux() else { return };
    let first = isolinux.len();
    let entries = vec![Entry::new("isolinux.bin", Content::Bytes(isolinux))];
    let hybrid =
        Hybrid { code: Some(code.clone()), signature: 5, disk_id: Guid::NIL, esp_id: Guid::from_u128(1) };
    let (layout, image) = build(&entries, Options { bios: Some(0), hybrid: Some(hybrid), ..options() });
    assert_eq!(image[..432], *code);
    let sector = layout.offset(0).unwrap() / 512;
    assert_eq!(image[432..440], sector.to_le_bytes());
    assert_eq!(image[446..462], [0x80, 0, 1, 0, 0x17, 32, 32, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
    assert!(image[462..510].iter().chain(&image[512..32_768]).all(|b| *b == 0));
    // The boot-info table: PVD, own block, length, checksum.
    let at = layout.offset(0).unwrap() as usize;
    let words: Vec<u32> =
        image[at..at + first].chunks(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    let sum = words[16..].iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
    assert_eq!(words[2..6], [16, (at / 2048) as u32, first as u32, sum]);
}

#[test]
fn an_esp_over_32_mib_has_a_sector_count_that_means_to_the_end() {
    let count = |len| {
        let entries = vec![Entry::new("e", Content::File(len))];
        let layout = Layout::new(entries, Options { uefi: Some(0), ..options() }).unwrap();
        let block = layout.extents[0].block;
        let catalog = boot::catalog(None, Some(boot::Image { block, len }));
        (catalog[1], u16::from_le_bytes([catalog[38], catalog[39]]))
    };
    assert_eq!(count(65_535 * 512), (0xef, 65_535));
    assert_eq!(count(65_535 * 512 + 1), (0xef, 0));
}

#[test]
fn the_catalogs_checksum_is_zero_over_its_words() {
    let image = Some(boot::Image { block: 30, len: 1000 });
    for catalog in [boot::catalog(image, image), boot::catalog(None, image), boot::catalog(image, None)] {
        let words = catalog[..32].chunks(2).map(|w| u16::from_le_bytes([w[0], w[1]]));
        assert_eq!(words.fold(0, u16::wrapping_add), 0);
        assert_eq!((catalog[32], catalog[40]), (0x88, 30));
    }
}
