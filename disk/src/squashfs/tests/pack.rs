use super::*;
use crate::content::ContentError;
use crate::squashfs::pack::{IndexError, PackError, PackIndex};
use proptest::prelude::*;

/// Contents of all kinds and lengths around a block of 4096.
fn mixed() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        text(1, 10),
        text(2, 4095),
        text(3, 4096),
        text(4, 4097),
        noise(5, 20_000),
        vec![0; 12_288],
        text(1, 10),
        text(4, 4097),
        vec![0; 100],
        text(6, 500_000),
        [text(7, 8192), vec![0; 8192], text(8, 100)].concat(),
    ]
}

fn bytes_of(pack: &Pack) -> (Vec<u8>, Vec<u8>) {
    (fs::read(pack.path()).unwrap(), pack.index().to_bytes())
}

/// Reads a file; the pack's error if there is one.
fn error_of(pack: &Pack, file: u32) -> PackError {
    let mut reader = pack.reader(FileRef::new(file)).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    // Reading on is an error again, and nothing worse.
    assert!(reader.read(&mut [0; 10]).is_err());
    *error.into_inner().unwrap().downcast().unwrap()
}

#[test]
fn a_pack_gives_back_what_was_added() {
    let dir = tempfile::tempdir().unwrap();
    let pack = packed(&dir.path().join("pack"), small_blocks(), 2, &mixed());
    for (content, number) in mixed().iter().zip(0..) {
        assert!(unpacked(&pack, number) == *content, "file {number}");
        assert_eq!(pack.index().len_of(FileRef::new(number)), Some(content.len() as u64));
        assert_eq!(pack.index().digest_of(FileRef::new(number)), Some(*blake3::hash(content).as_bytes()));
    }
    assert_eq!(pack.index().file_count(), 12);
}

#[test]
fn a_pack_read_from_disk_is_the_pack_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let written = packed(&dir.path().join("pack"), small_blocks(), 2, &mixed());
    let index = PackIndex::from_bytes(&written.index().to_bytes()).unwrap();
    assert_eq!(index, *written.index());
    assert_eq!(index.key(), small_blocks().key());
    let read = Pack::open(written.path(), index).unwrap();
    for number in 0..12 {
        assert!(unpacked(&read, number) == unpacked(&written, number), "file {number}");
    }
}

#[test]
fn threads_and_donors_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let one = packed(&at("one"), small_blocks(), 1, &mixed());
    assert!(bytes_of(&one) == bytes_of(&packed(&at("four"), small_blocks(), 4, &mixed())));

    let mut older = mixed();
    older.remove(1);
    older.push(text(99, 50_000));
    let older = packed(&at("older"), small_blocks(), 2, &older);
    let torn = packed(&at("torn"), small_blocks(), 2, &mixed());
    let mut torn_bytes = fs::read(torn.path()).unwrap();
    torn_bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
    fs::write(torn.path(), torn_bytes).unwrap();
    let foreign = packed(&at("foreign"), Settings::new(4096, 9).unwrap(), 2, &mixed());
    for donors in [vec![older.clone()], vec![torn.clone()], vec![foreign, torn, older, one.clone()]] {
        let donors = Arc::new(Donors::new(small_blocks(), donors));
        let mut writer = PackWriter::create(&at("helped"), small_blocks(), 2, donors).unwrap();
        for content in &mixed() {
            writer.add(content.len() as u64, &mut &content[..]).unwrap();
        }
        assert!(bytes_of(&one) == bytes_of(&writer.finish().unwrap()));
    }
}

#[test]
fn equal_contents_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let once = vec![noise(1, 100_000), noise(2, 50), noise(3, 4096)];
    let twice: Vec<_> = once.iter().chain(&once).cloned().collect();
    let once = packed(&dir.path().join("once"), small_blocks(), 3, &once);
    let twice = packed(&dir.path().join("twice"), small_blocks(), 3, &twice);
    assert_eq!(fs::read(once.path()).unwrap().len(), 104_146);
    // In `twice` the small file was not yet in a block when the second copies came, so only the order differs.
    assert_eq!(fs::read(twice.path()).unwrap().len(), 104_146);
    assert_eq!(twice.index().unique_len(), once.index().unique_len());
    for number in 0..3 {
        assert!(unpacked(&twice, number) == unpacked(&twice, number + 3));
    }
}

#[test]
fn zeros_take_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer =
        PackWriter::create(&dir.path().join("pack"), Settings::default(), 2, Arc::default()).unwrap();
    let len = 5 << 30;
    writer.add(len, &mut std::io::repeat(0).take(len)).unwrap();
    let pack = writer.finish().unwrap();
    assert_eq!(pack.index().stored_len(), 0);
    assert_eq!(pack.index().len_of(FileRef::new(0)), Some(len));
}

#[test]
fn blocks_that_do_not_get_smaller_are_stored_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let pack = packed(&dir.path().join("pack"), small_blocks(), 1, &[noise(1, 8192)]);
    assert!(fs::read(pack.path()).unwrap() == noise(1, 8192));
}

#[test]
fn a_reused_context_compresses_as_a_new_one_does() {
    for level in [1, 3, 5, 7, 12, 16, 19] {
        let settings = Settings::new(1 << 16, level).unwrap();
        let mut reused = block::Compressor::new(settings).unwrap();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for seed in 0..6 {
            let raw = text(seed, 65_536 >> (seed % 3));
            let word = reused.compress(&raw, &mut one).unwrap();
            let fresh = block::Compressor::new(settings).unwrap().compress(&raw, &mut other).unwrap();
            assert_eq!((word, &one), (fresh, &other), "level {level}");
        }
    }
}

#[test]
fn a_content_of_another_length_tears_the_pack() {
    let dir = tempfile::tempdir().unwrap();
    for (announced, content) in
        [(10, text(1, 9)), (10, text(1, 11)), (9000, text(1, 8192)), (8192, text(1, 8193))]
    {
        let at = dir.path().join("pack");
        let mut writer = PackWriter::create(&at, small_blocks(), 2, Arc::default()).unwrap();
        writer.add(3, &mut &b"abc"[..]).unwrap();
        let error = writer.add(announced, &mut &content[..]).unwrap_err();
        assert_eq!(error.to_string(), format!("pack {}: file 1", at.display()));
        let PackError::Content { source, .. } = error else { panic!("{error}") };
        match source {
            ContentError::Short { found, .. } => assert_eq!(found, content.len() as u64),
            ContentError::Long { .. } => assert!(announced < content.len() as u64),
            other => panic!("{other}"),
        }
        assert!(matches!(writer.add(0, &mut std::io::empty()), Err(PackError::Torn { .. })));
        assert!(matches!(writer.finish(), Err(PackError::Torn { .. })));
    }
}

#[test]
fn a_flipped_byte_is_an_error_that_names_the_block() {
    let dir = tempfile::tempdir().unwrap();
    let contents = [text(1, 100), text(2, 40_000)];
    let pack = packed(&dir.path().join("pack"), small_blocks(), 2, &contents);
    let good = fs::read(pack.path()).unwrap();
    for at in (0..good.len()).step_by(611) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(pack.path(), bad).unwrap();
        let error = [0, 1].into_iter().find_map(|file| {
            pack.reader(FileRef::new(file))
                .unwrap()
                .read_to_end(&mut Vec::new())
                .err()
                .map(|_| error_of(&pack, file))
        });
        let Some(PackError::Corrupt { block, offset, .. }) = error else { panic!("byte {at}: {error:?}") };
        let end = offset + u64::from(block::stored_len(pack.index().blocks()[block as usize].word));
        assert!((offset..end).contains(&(at as u64)));
    }
}

#[test]
fn a_truncated_pack_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pack = packed(&dir.path().join("pack"), small_blocks(), 2, &mixed());
    let len = fs::metadata(pack.path()).unwrap().len();
    fs::File::options().write(true).open(pack.path()).unwrap().set_len(len - 1).unwrap();
    let error = Pack::open(pack.path(), pack.index().clone()).unwrap_err();
    let expected = format!("pack {} is {} bytes long, its index says {len}", pack.path().display(), len - 1);
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error_of(&pack, 9), PackError::Read { .. }));
}

#[test]
fn a_reference_of_another_pack_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pack = packed(&dir.path().join("pack"), small_blocks(), 1, &[text(1, 5)]);
    let error = pack.reader(FileRef::new(1)).unwrap_err();
    assert_eq!(error.to_string(), format!("pack {} has no file 1, it has 1", pack.path().display()));
    assert_eq!(pack.index().len_of(FileRef::new(1)), None);
}

#[test]
fn an_index_with_a_flipped_bit_or_cut_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = packed(&dir.path().join("pack"), small_blocks(), 1, &mixed()).index().to_bytes();
    for at in 0..index.len() {
        let mut bad = index.clone();
        bad[at] ^= 1;
        assert!(PackIndex::from_bytes(&bad).is_err(), "byte {at}");
        assert!(PackIndex::from_bytes(&index[..at]).is_err(), "{at} bytes");
    }
    assert_eq!(PackIndex::from_bytes(b"other"), Err(IndexError::Magic));
}

/// Files of up to some blocks; some are equal, some begin alike.
fn files() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let file = (0u64..6, 0usize..20_000, 0..4).prop_map(|(seed, len, kind)| match kind {
        0 => vec![0; len],
        1 => noise(seed, len),
        2 => text(seed, len % 300),
        _ => text(seed, len),
    });
    proptest::collection::vec(file, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_files_come_back(files in files(), threads in 1usize..4) {
        let dir = tempfile::tempdir().unwrap();
        let pack = packed(&dir.path().join("pack"), small_blocks(), threads, &files);
        let pack = Pack::open(pack.path(), PackIndex::from_bytes(&pack.index().to_bytes()).unwrap()).unwrap();
        for (content, number) in files.iter().zip(0..) {
            prop_assert!(unpacked(&pack, number) == *content);
        }
        let again = packed(&dir.path().join("again"), small_blocks(), 2, &files);
        prop_assert!(bytes_of(&again) == bytes_of(&pack));
    }

    /// Somebody may write an index that has a right checksum and wrong numbers.
    #[test]
    fn an_index_of_any_numbers_is_refused_or_can_be_used(at in 26usize..3000, value in any::<u8>(), word in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let pack = packed(&dir.path().join("pack"), small_blocks(), 1, &mixed());
        let mut bytes = pack.index().to_bytes();
        let body = bytes.len() - 16;
        let at = at % (body - 4);
        bytes[at] = value;
        if word {
            bytes[at + 1] = 0;
        }
        let sum = block::checksum(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
        if let Ok(index) = PackIndex::from_bytes(&bytes) {
            let files = index.file_count();
            if let Ok(pack) = Pack::open(pack.path(), index) {
                for file in 0..files {
                    let _ = pack.reader(FileRef::new(file)).unwrap().read_to_end(&mut Vec::new());
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_no_index(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(PackIndex::from_bytes(&bytes).is_err());
        prop_assert!(PackIndex::from_bytes(&[b"kitpack\n\x02\0\0\0", &bytes[..]].concat()).is_err());
    }
}
