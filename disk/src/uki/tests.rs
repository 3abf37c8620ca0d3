use super::*;
use object::{Object, ObjectSection};
use proptest::prelude::*;
use std::error::Error as _;
use std::process::Command;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The smallest stub: headers with room for `room` more sections, one section, and symbols after it.
fn tiny_stub(room: usize) -> Vec<u8> {
    let headers_len = (0x40 + 24 + 240 + 40 * (1 + room)).next_multiple_of(512);
    let mut b = vec![0; headers_len];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(60, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    for (at, value) in [(4, 0x8664u16), (6, 1), (20, 240), (22, 0x206), (24, 0x20b), (92, 10)] {
        put(0x40 + at, &value.to_le_bytes());
    }
    let optional = [(8, 0u32), (16, 0x1000), (32, 0x200), (36, 0x200), (56, 0x1200), (64, 0xdead), (108, 16)];
    for (at, value) in optional.into_iter().chain([(60, headers_len as u32)]) {
        put(0x58 + at, &value.to_le_bytes());
    }
    put(0x4c, &0x1234u32.to_le_bytes());
    let table = 0x58 + 240;
    put(table, b".text");
    for (at, value) in [(8, 0x10u32), (12, 0x1000), (16, 0x200), (20, headers_len as u32), (36, 0x6000_0020)]
    {
        put(table + at, &value.to_le_bytes());
    }
    b.extend([0x90; 512]);
    b.extend(b"symbols");
    b
}

fn parts() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (".osrel", b"ID=kit\n".to_vec()),
        (".cmdline", b"console=ttyS0 quiet".to_vec()),
        (".uname", b"6.1.0".to_vec()),
        (".initrd", vec![0x17; 70_001]),
        (".linux", vec![0x4c; 4096]),
    ]
}

fn sections(parts: &[(&str, Vec<u8>)]) -> Vec<Section> {
    parts.iter().map(|(name, data)| Section::new(*name, data.len() as u64)).collect()
}

fn build(stub: &[u8]) -> (Layout, Vec<u8>) {
    let parts = parts();
    let layout = Layout::new(stub, &sections(&parts)).unwrap();
    let mut out = Vec::new();
    layout.write(&mut out, |n, sink| Ok(sink.write_all(&parts[n].1)?)).unwrap();
    assert_eq!(out.len() as u64, layout.size());
    (layout, out)
}

fn check(stub: &[u8]) {
    let (layout, out) = build(stub);
    let image = Image::read(&mut Cursor::new(&out)).unwrap();
    for (n, (name, data)) in parts().into_iter().enumerate() {
        let mut read = Vec::new();
        image.open(&mut Cursor::new(&out), name).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == data, "{name}");
        let offset = layout.offset(n).unwrap();
        assert_eq!((offset % 4096, &out[offset as usize..][..data.len()]), (0, data.as_slice()));
        assert_eq!(image.section(name).unwrap().address % 4096, 0);
    }
    let before = Image::read(&mut Cursor::new(stub)).unwrap();
    assert_eq!(image.sections[..before.sections.len()], before.sections);
    // A reader that is not ours.
    let file = object::read::pe::PeFile64::parse(out.as_slice()).unwrap();
    for (name, data) in parts() {
        let section = file.section_by_name(name).unwrap();
        assert_eq!((section.size(), section.data().unwrap()), (data.len() as u64, data.as_slice()), "{name}");
    }
    let header = file.nt_headers().optional_header;
    let end = file.sections().map(|s| s.address() + s.size()).max().unwrap() - file.relative_address_base();
    let size = u64::from(header.size_of_image.get(object::LittleEndian));
    assert_eq!(size, end.next_multiple_of(4096));
    assert_eq!(header.check_sum.get(object::LittleEndian), 0);
    let coff = file.nt_headers().file_header;
    assert_eq!(coff.pointer_to_symbol_table.get(object::LittleEndian), 0);
}

#[test]
fn every_section_is_found_where_the_layout_says() {
    check(&tiny_stub(5));
}

#[test]
fn systemds_stub_takes_the_sections() {
    match std::fs::read(STUB) {
        Ok(stub) => check(&stub),
        Err(e) => println!("skipped: {STUB}: {e}"),
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert!(build(&tiny_stub(7)).1 == build(&tiny_stub(7)).1);
}

#[test]
fn objdump_and_file_take_it_for_an_efi_program() {
    let (_, out) = build(&tiny_stub(5));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kit.efi");
    std::fs::write(&path, out).unwrap();
    let run = |tool: &str, args: &[&str]| match Command::new(tool).args(args).arg(&path).output() {
        Ok(out) => {
            assert!(out.status.success(), "{tool}: {}", String::from_utf8_lossy(&out.stderr));
            Some(String::from_utf8_lossy(&out.stdout).into_owned())
        }
        Err(e) => {
            println!("skipped: {tool}: {e}");
            None
        }
    };
    if let Some(text) = run("objdump", &["-h"]) {
        let names: Vec<&str> =
            text.lines().filter_map(|l| l.split_whitespace().nth(1)).filter(|w| w.starts_with('.')).collect();
        assert_eq!(names, [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"], "{text}");
    }
    if let Some(text) = run("file", &["-b"]) {
        assert!(text.contains("PE32+ executable (EFI application) x86-64"), "{text}");
    }
}

#[test]
fn sections_that_a_stub_would_misread_are_refused() {
    let stub = tiny_stub(5);
    let refused = |wanted: &[(&str, u64)]| {
        let sections: Vec<Section> = wanted.iter().map(|(name, len)| Section::new(*name, *len)).collect();
        Layout::new(&stub, &sections).unwrap_err().to_string()
    };
    for (wanted, why) in [
        (vec![("osrel", 1)], "UKI section \"osrel\": a name is a dot and up to seven letters or digits"),
        (
            vec![(".toolong8", 1)],
            "UKI section \".toolong8\": a name is a dot and up to seven letters or digits",
        ),
        (vec![("", 1)], "UKI section \"\": a name is a dot and up to seven letters or digits"),
        (vec![("é.", 1)], "UKI section \"é.\": a name is a dot and up to seven letters or digits"),
        (vec![(".text", 1)], "UKI section \".text\" is there twice"),
        (vec![(".a", 1), (".a", 1)], "UKI section \".a\" is there twice"),
        (vec![(".cmdline", 0)], "UKI section \".cmdline\" is empty"),
        (
            vec![(".linux", 1), (".initrd", 1)],
            "UKI section \".initrd\" follows .linux, which has to be the last",
        ),
        (
            vec![(".initrd", u32::MAX.into())],
            "UKI section \".initrd\" of 4294967295 bytes takes the image over 4 GiB",
        ),
        (
            vec![(".initrd", u64::MAX)],
            "UKI section \".initrd\" of 18446744073709551615 bytes takes the image over 4 GiB",
        ),
        (vec![(".a", 1); 60], "the UEFI stub's headers have room for 16 more sections, 60 are wanted"),
    ] {
        assert_eq!(refused(&wanted), why);
    }
}

#[test]
fn stubs_that_cannot_be_extended_are_refused() {
    let whole = tiny_stub(5);
    let refused = |stub: &[u8]| Layout::new(stub, &[Section::new(".linux", 1)]).unwrap_err();
    let with = |at: usize, value: &[u8]| {
        let mut stub = whole.clone();
        stub[at..at + value.len()].copy_from_slice(value);
        stub
    };
    assert_eq!(refused(&with(0, b"XX")).source().unwrap().to_string(), "not a PE32+ image: no MZ at byte 0");
    assert_eq!(
        refused(&with(60, &u32::MAX.to_le_bytes())).source().unwrap().to_string(),
        "PE image: e_lfanew is 4294967295"
    );
    let many = refused(&with(0x46, &97u16.to_le_bytes()));
    assert_eq!(many.source().unwrap().to_string(), "PE image: NumberOfSections is 97");
    // The certificate table's directory entry.
    assert!(matches!(refused(&with(0x58 + 144, &[0, 0, 1, 0, 8, 0, 0, 0])), LayoutError::Signed));
    let cut = refused(&whole[..whole.len() - 100]);
    assert_eq!(cut.to_string(), "UEFI stub of 1443 bytes: the last section ends at byte 1536");
}

#[test]
fn a_section_beyond_the_file_is_not_read() {
    let (_, mut out) = build(&tiny_stub(5));
    let image = Image::read(&mut Cursor::new(&out)).unwrap();
    out.truncate(out.len() - 4096);
    let err = image.open(&mut Cursor::new(&out), ".linux").unwrap_err();
    assert!(matches!(err, PeError::OutOfFile { .. }), "{err}");
    let err = image.open(&mut Cursor::new(&out), ".ucode").unwrap_err();
    assert_eq!(err.to_string(), "PE image has no section \".ucode\"");
}

proptest! {
    #[test]
    fn a_damaged_stub_is_laid_out_or_refused_but_never_panics(
        damage in prop::collection::vec((0usize..1100, any::<u8>()), 1..12), cut in 0usize..1600
    ) {
        let mut stub = tiny_stub(5);
        for (at, byte) in damage {
            stub[at] = byte;
        }
        stub.truncate(cut.max(64));
        let parts = parts();
        if let Ok(layout) = Layout::new(&stub, &sections(&parts)) {
            // Damaged offsets may ask for a file of gigabytes, which is not the point.
            if layout.size() < 1 << 20 {
                layout.write(&mut Vec::new(), |n, sink| Ok(sink.write_all(&parts[n].1)?)).unwrap();
            }
        }
    }
}
