//! Compression, ends, and streams that end early.

use super::*;

fn small() -> Vec<Member> {
    vec![Member::dir("d/"), Member::file("d/a", "x".repeat(700)), Member::file("b", "").record("uid", "5")]
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes it")
}

/// Gives one byte at a time, and a signal between any two.
struct Drip<'a>(&'a [u8], bool);

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let end = buf.len().min(1);
        self.0.read(&mut buf[..end])
    }
}

#[test]
fn media_types_and_first_bytes_tell_the_compression() {
    for (media_type, want) in [
        ("application/vnd.oci.image.layer.v1.tar", Some(Compression::None)),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd)),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Compression::Gzip)),
        ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::None)),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip)),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Compression::Gzip)),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
        ("application/vnd.in-toto+json", None),
    ] {
        assert_eq!(Compression::of_media_type(media_type), want, "{media_type}");
    }
    assert_eq!(Compression::sniff(&gzip(b"")), Compression::Gzip);
    assert_eq!(Compression::sniff(&zstd(b"")), Compression::Zstd);
    assert_eq!(Compression::sniff(b"\xfd7zXZ\0"), Compression::Xz);
    assert_eq!(Compression::sniff(b""), Compression::None);
}

#[test]
fn one_two_and_interrupted_streams_of_every_compression_are_read() {
    let tar = archive(Format::Pax, &small());
    let want = read(&tar).unwrap();
    let (start, end) = tar.split_at(777);
    let skippable = [b"\x5a\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(&tar)].concat();
    let members = [gzip(start), gzip(b""), gzip(end)].concat();
    let mut blobs = vec![tar.clone(), gzip(&tar), members, zstd(&tar), skippable];
    blobs.push([zstd(start), zstd(end)].concat());
    blobs.extend(foreign::filter("xz", &["-c"], &tar));
    for blob in blobs {
        assert_eq!(read(&blob).unwrap(), want);
        let layer = Layer::open(Drip(&blob, false), None).unwrap();
        let (changes, rest) = changes(layer, |_, _, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map(|_| bytes)
        })
        .unwrap();
        assert_eq!((changes, rest.0.len()), (want.clone(), 0));
    }
}

#[test]
fn a_compression_that_was_promised_is_not_guessed_again() {
    let tar = archive(Format::Ustar, &small());
    let mut layer = Layer::open(&tar[..], Some(Compression::Gzip)).unwrap();
    assert!(matches!(layer.next().map(|_| ()), Err(LayerError::Read { offset: 0, .. })));
}

#[test]
fn a_compressed_stream_is_cut_off_nowhere_without_an_error() {
    let tar = archive(Format::Pax, &small());
    for blob in [gzip(&tar), zstd(&tar)].into_iter().chain(foreign::filter("xz", &["-c"], &tar)) {
        for len in 6..blob.len() {
            assert!(read(&blob[..len]).is_err(), "cut off at byte {len} of {}", blob.len());
        }
    }
}

#[test]
fn a_damaged_byte_of_a_gzip_stream_does_not_go_unnoticed() {
    let blob = gzip(&archive(Format::Pax, &small()));
    let want = read(&blob).unwrap();
    // The ten bytes of the header hold a time and an operating system, which may say anything.
    for at in 10..blob.len() {
        let mut damaged = blob.clone();
        damaged[at] ^= 0x10;
        // Some bits of a compressed stream can be either way.
        assert!(read(&damaged).map_or(true, |found| found == want), "byte {at} of {}", blob.len());
    }
}

#[test]
fn an_archive_is_cut_off_between_entries_or_with_an_error() {
    let members = small();
    let tar = archive(Format::Pax, &members);
    let mut ends = vec![0];
    for member in &members {
        ends.push(ends[ends.len() - 1] + member.write(Format::Pax).len());
    }
    ends.push(ends[ends.len() - 1] + 512);
    for len in 0..tar.len() {
        assert_eq!(read(&tar[..len]).is_ok(), ends.contains(&len), "cut off at byte {len}");
    }
}

#[test]
fn what_is_cut_off_is_named() {
    let tar = archive(Format::Ustar, &small());
    assert_eq!(told(read(&tar[..100])), "the archive ends at byte 100, within a header");
    assert_eq!(
        told(read(&tar[..1100])),
        "store the content of /d/a: the archive ends 624 bytes before the end of this file"
    );
    let mut layer = Layer::open(&tar[..1100], None).unwrap();
    layer.next().unwrap().unwrap();
    layer.next().unwrap().unwrap();
    let told = told(layer.next().map(|_| ()));
    assert_eq!(told, "the archive ends at byte 1100, within the content of `d/a`");
}

#[test]
fn after_an_error_there_is_nothing_more() {
    let mut tar = archive(Format::Ustar, &small());
    tar[512] ^= 1;
    let mut layer = Layer::open(&tar[..], None).unwrap();
    layer.next().unwrap().unwrap();
    assert!(matches!(layer.next().map(|_| ()), Err(LayerError::Checksum { offset: 512, .. })));
    assert!(matches!(layer.next().map(|_| ()), Err(LayerError::AfterError)));
    assert!(matches!(layer.finish(), Err(LayerError::AfterError)));
}

#[test]
fn what_follows_the_end_is_read_and_ignored() {
    let mut tar = archive(Format::Ustar, &small());
    let want = read(&tar).unwrap();
    tar.extend([0; 4096]);
    tar.extend(b"anything");
    assert_eq!(read(&tar).unwrap(), want);
    assert_eq!(read(&gzip(&tar)).unwrap(), want);
    assert_eq!(read(&[]).unwrap(), []);
    assert_eq!(read(&gzip(&[])).unwrap(), []);
}

#[test]
fn a_lone_block_of_zeros_is_no_end() {
    let one = Member::file("a", "").write(Format::Ustar);
    let tar = [&one[..], &[0; 512], &one].concat();
    assert_eq!(told(read(&tar)), "a lone block of zeros at byte 512 is followed by data");
}

#[test]
fn what_is_no_archive_is_said_to_be_damaged() {
    let told = told(read(&b"{\"not\": \"a tar\"}".repeat(64)));
    assert!(told.starts_with("the header at byte 0 is damaged: it says checksum"), "{told}");
}

#[test]
fn contents_that_are_not_read_are_passed_over() {
    let tar = archive(Format::Ustar, &small());
    let mut layer = Layer::open(Cursor::new(&tar), None).unwrap();
    let mut names = Vec::new();
    while let Some(mut entry) = layer.next().unwrap() {
        names.push(entry.change.path.to_string());
        let _ = entry.content.read(&mut [0; 3]).unwrap();
    }
    assert_eq!(names, ["/d", "/d/a", "/b"]);
    assert_eq!(layer.finish().unwrap().position(), tar.len() as u64);
}

#[test]
fn finishing_early_still_reads_the_blob_to_its_end() {
    let blob = gzip(&archive(Format::Ustar, &small()));
    let mut layer = Layer::open(Cursor::new(&blob), None).unwrap();
    layer.next().unwrap().unwrap();
    assert_eq!(layer.finish().unwrap().position(), blob.len() as u64);
}
