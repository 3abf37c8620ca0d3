use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;

use oci_spec::image::{Descriptor, MediaType};
use proptest::prelude::*;

use super::*;
use crate::digest::of;
use crate::reference::Reference;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    (directory, store)
}

fn files(store: &Store, below: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(store.path().join(below))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn damage(store: &Store, digest: &Digest, change: impl FnOnce(&mut Vec<u8>)) {
    let path = store.blob_path(digest).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, bytes).unwrap();
}

fn part(store: &Store, content: &[u8]) -> Box<Part> {
    match store.begin(&of(content), content.len() as u64).unwrap() {
        Begin::Part(part) => part,
        Begin::Present => panic!("the blob is there"),
    }
}

/// Stores an image of one configuration and one layer; returns its manifest's descriptor.
fn image(store: &Store, layer: &[u8]) -> Descriptor {
    let config = store.put_bytes(format!("config of {layer:?}").as_bytes()).unwrap();
    let layer = store.put_bytes(layer).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size}],
    });
    let stored = store.put_bytes(manifest.to_string().as_bytes()).unwrap();
    Descriptor::new(MediaType::ImageManifest, stored.size, stored.digest)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn a_new_store_is_an_empty_image_layout() {
    let (_directory, store) = store();
    assert_eq!(fs::read(store.path().join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(store.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index, serde_json::json!({"schemaVersion": 2, "manifests": []}));
    assert!(Store::open(store.path()).is_ok());
}

#[test]
fn a_directory_of_another_layout_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Layout { .. })));
}

#[test]
fn what_was_put_comes_out_by_its_digest() {
    let (_directory, store) = store();
    let stored = store.put_bytes(b"abc").unwrap();
    assert_eq!((store.has(&stored.digest).unwrap(), store.size(&stored.digest).unwrap()), (true, Some(3)));
    assert_eq!(store.read(&stored.digest, 3).unwrap(), b"abc");
    assert_eq!(store.stream_verified(&stored.digest, Some(3)).unwrap().finish().unwrap().size(), 3);
    let mut blob = store.open_verified(&stored.digest, Some(3)).unwrap();
    blob.seek(SeekFrom::Start(1)).unwrap();
    let mut rest = String::new();
    blob.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bc");
    assert!(matches!(store.read(&stored.digest, 2), Err(StoreError::TooLarge { size: 3, limit: 2, .. })));
    assert!(matches!(store.read(&of(b"x"), 2), Err(StoreError::Missing { .. })));
    assert_eq!(store.put_unnamed(&b"abc"[..], 3).unwrap(), stored);
}

#[test]
fn sha512_blobs_have_their_own_directory() {
    let (_directory, store) = store();
    let mut hasher = digest::Hasher::new(Algorithm::Sha512);
    hasher.update(b"abc");
    let digest = hasher.finish();
    store.put_stream(&b"abc"[..], &digest, None).unwrap();
    assert_eq!(files(&store, "blobs/sha512").len(), 1);
    assert_eq!(store.read(&digest, 10).unwrap(), b"abc");
}

#[test]
fn wrong_content_is_not_stored_and_leaves_nothing() {
    let (_directory, store) = store();
    for (content, size) in [(&b"abd"[..], Some(3)), (b"ab", Some(3)), (b"abcd", Some(3)), (b"abcd", None)] {
        let error = store.put_stream(content, &of(b"abc"), size).unwrap_err();
        assert!(matches!(error, StoreError::Content { .. }), "{error:?}");
    }
    assert!(matches!(store.put_unnamed(&b"abcd"[..], 3), Err(StoreError::TooLarge { .. })));
    assert_eq!((files(&store, "blobs/sha256").len(), files(&store, "ingest").len()), (0, 0));
}

#[test]
fn a_flipped_byte_is_an_error_that_names_the_digest() {
    let (_directory, store) = store();
    let digest = store.put_bytes(&[7; 5000]).unwrap().digest;
    damage(&store, &digest, |bytes| bytes[4999] ^= 1);
    let damaged = |error: StoreError| {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(digest.as_ref()), "{error}");
        assert!(error.hint().is_some());
    };
    damaged(store.read(&digest, 5000).unwrap_err());
    damaged(store.open_verified(&digest, None).unwrap_err());
    let mut out = Vec::new();
    let error = store.stream_verified(&digest, None).unwrap().read_to_end(&mut out).unwrap_err();
    assert!(out.len() < 5000);
    damaged(store.read_error(&digest, error));
    let report = store.verify().unwrap();
    assert_eq!(report.corrupt.iter().map(|corrupt| &corrupt.digest).collect::<Vec<_>>(), [&digest]);
    assert!(store.remove(&digest).unwrap());
    assert!(!store.remove(&digest).unwrap());
}

#[test]
fn a_cut_blob_is_an_error_at_once_where_the_size_is_known() {
    let (_directory, store) = store();
    let digest = store.put_bytes(&[7; 5000]).unwrap().digest;
    damage(&store, &digest, |bytes| bytes.truncate(4096));
    assert!(matches!(store.stream_verified(&digest, Some(5000)), Err(StoreError::Corrupt { .. })));
    assert!(matches!(store.begin(&digest, 5000), Err(StoreError::Corrupt { .. })));
    assert!(store.stream_verified(&digest, None).unwrap().finish().is_err());
}

#[test]
fn putting_a_blob_again_mends_it() {
    let (_directory, store) = store();
    let digest = store.put_bytes(b"abc").unwrap().digest;
    damage(&store, &digest, |bytes| bytes[0] = b'x');
    store.put_bytes(b"abc").unwrap();
    assert_eq!(store.read(&digest, 3).unwrap(), b"abc");
}

#[test]
fn verify_reports_every_damaged_blob_and_what_does_not_belong() {
    let (_directory, store) = store();
    let digests: Vec<Digest> = (0..5u8).map(|n| store.put_bytes(&[n; 100]).unwrap().digest).collect();
    damage(&store, &digests[1], |bytes| bytes[50] = 0xff);
    damage(&store, &digests[3], |bytes| bytes.push(0));
    fs::write(store.path().join("blobs/sha256/README"), "x").unwrap();
    let report = store.verify().unwrap();
    let mut expected = vec![digests[1].to_string(), digests[3].to_string()];
    expected.sort();
    assert_eq!(report.corrupt.iter().map(|corrupt| corrupt.digest.to_string()).collect::<Vec<_>>(), expected);
    assert_eq!((report.blobs, report.bytes, report.strange.len()), (5, 300, 1));
}

#[test]
fn a_link_or_a_pipe_is_no_blob() {
    let (directory, store) = store();
    let secret = directory.path().join("secret");
    fs::write(&secret, "abc").unwrap();
    std::os::unix::fs::symlink(&secret, store.blob_path(&of(b"abc")).unwrap()).unwrap();
    assert!(store.stream_verified(&of(b"abc"), None).is_err());
    assert!(store.has(&of(b"abc")).is_err());
    let pipe = store.blob_path(&of(b"x")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert!(store.stream_verified(&of(b"x"), None).is_err());
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let (_directory, store) = store();
    let mut first = part(&store, b"hello world");
    first.append(b"hello ").unwrap();
    drop(first);
    let mut second = part(&store, b"hello world");
    assert_eq!(second.length(), 6);
    let (mut second, error) = {
        second.append(b"wor").unwrap();
        second.commit().unwrap_err()
    };
    assert!(
        matches!(error, StoreError::Content { source } if matches!(*source, Mismatch::TooShort { found: 9, .. }))
    );
    second.append(b"ld").unwrap();
    second.commit().unwrap();
    assert_eq!(store.read(&of(b"hello world"), 100).unwrap(), b"hello world");
    assert!(files(&store, "ingest").is_empty());
    assert!(matches!(store.begin(&of(b"hello world"), 11), Ok(Begin::Present)));
}

#[test]
fn a_wrong_download_is_forgotten() {
    let (_directory, store) = store();
    let mut wrong = part(&store, b"right");
    wrong.append(b"wrong").unwrap();
    let (wrong, error) = wrong.commit().unwrap_err();
    assert!(matches!(error, StoreError::Content { source } if matches!(*source, Mismatch::Content { .. })));
    assert_eq!(wrong.length(), 0);
    drop(wrong);
    let mut long = part(&store, b"right");
    long.append(b"righ").unwrap();
    assert!(
        matches!(long.append(b"tx"), Err(StoreError::Content { source }) if matches!(*source, Mismatch::TooLong { .. }))
    );
    assert_eq!(long.length(), 0);
    drop(long);
    assert!(files(&store, "ingest").is_empty() && files(&store, "blobs/sha256").is_empty());
}

#[test]
fn a_part_longer_than_the_blob_is_not_taken_up() {
    let (_directory, store) = store();
    part(&store, b"abc").append(b"abc").unwrap();
    let name = files(&store, "ingest").remove(0);
    let path = store.path().join("ingest").join(name);
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"def").unwrap();
    assert_eq!(part(&store, b"abc").length(), 0);
}

#[test]
fn who_waits_for_a_download_finds_the_blob_in_place() {
    let (_directory, store) = store();
    let content = b"shared content";
    let barrier = Barrier::new(4);
    let made = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(store.path()).unwrap();
                    barrier.wait();
                    match store.begin(&of(content), content.len() as u64).unwrap() {
                        Begin::Present => 0,
                        Begin::Part(mut part) => {
                            part.append(&content[part.length() as usize..]).unwrap();
                            part.commit().unwrap();
                            1
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
    });
    assert_eq!(made, 1);
    assert_eq!(store.read(&of(content), 100).unwrap(), content);
    assert!(files(&store, "ingest").is_empty());
}

#[test]
fn names_come_and_go() {
    let (_directory, store) = store();
    let (one, two) = (image(&store, b"1"), image(&store, b"2"));
    store.tag(&name("b:1"), &one).unwrap();
    store.tag(&name("a:1"), &one).unwrap();
    store.tag(&name("b:1"), &two).unwrap();
    let listed: Vec<_> =
        store.names().unwrap().into_iter().map(|n| (n.reference.to_string(), n.target)).collect();
    assert_eq!(
        listed,
        [
            ("docker.io/library/a:1".to_owned(), one.clone()),
            ("docker.io/library/b:1".to_owned(), two.clone())
        ]
    );
    assert_eq!(store.resolve(&name("b:1")).unwrap(), Some(two));
    assert!(store.untag(&name("b:1")).unwrap());
    assert!(!store.untag(&name("b:1")).unwrap());
    assert_eq!(store.resolve(&name("b:1")).unwrap(), None);
    let absent = Descriptor::new(MediaType::ImageManifest, 3, of(b"abc"));
    assert!(matches!(store.tag(&name("c"), &absent), Err(StoreError::Missing { .. })));
    let other_size = Descriptor::new(MediaType::ImageManifest, 3, one.digest().clone());
    assert!(matches!(store.tag(&name("c"), &other_size), Err(StoreError::Corrupt { .. })));
}

#[test]
fn what_others_wrote_into_the_index_is_kept() {
    let (_directory, store) = store();
    let target = image(&store, b"1");
    let foreign = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "annotations": {"a": "b"},
        "manifests": [{
            "mediaType": target.media_type(), "digest": target.digest(), "size": target.size(),
            "annotations": {"org.opencontainers.image.ref.name": "latest", "x": "y"},
            "platform": {"os": "linux", "architecture": "amd64"},
        }],
    });
    fs::write(store.path().join("index.json"), foreign.to_string()).unwrap();
    store.tag(&name("a:1"), &target).unwrap();
    store.untag(&name("a:1")).unwrap();
    let now: serde_json::Value =
        serde_json::from_slice(&fs::read(store.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(now, foreign);
    assert!(store.names().unwrap().is_empty());
}

#[test]
fn a_damaged_index_is_an_error_that_names_the_file() {
    let (_directory, store) = store();
    fs::write(store.path().join("index.json"), "{").unwrap();
    let error = store.names().unwrap_err();
    assert!(matches!(error, StoreError::Index { .. }) && error.to_string().contains("index.json"));
}

#[test]
fn many_writers_lose_no_name() {
    let (_directory, store) = store();
    let target = image(&store, b"1");
    thread::scope(|scope| {
        for worker in 0..8 {
            let (store, target) = (&store, &target);
            scope.spawn(move || {
                for number in 0..5 {
                    store.tag(&name(&format!("w{worker}:{number}")), target).unwrap();
                }
            });
        }
    });
    assert_eq!(store.names().unwrap().len(), 40);
}

#[test]
fn a_sweep_keeps_what_names_and_roots_need() {
    let (_directory, store) = store();
    let (kept, dropped) = (image(&store, b"kept"), image(&store, b"dropped"));
    let absent = of(b"another platform");
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": kept.digest(), "size": kept.size()},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": absent, "size": 16},
        ],
    });
    let index = store.put_bytes(index.to_string().as_bytes()).unwrap();
    store.tag(&name("kept"), &Descriptor::new(MediaType::ImageIndex, index.size, index.digest)).unwrap();
    let package = store.put_bytes(b"!<arch>\n").unwrap();
    let loose = store.put_bytes(b"loose").unwrap();
    part(&store, b"half").append(b"ha").unwrap();

    let swept = store.gc(&[package.digest.clone(), of(b"not there")]).unwrap();
    assert_eq!((swept.kept, swept.removed.len()), (5, 4));
    assert!(swept.removed.contains(dropped.digest()) && swept.removed.contains(&loose.digest));
    assert!(store.has(&package.digest).unwrap() && store.has(&of(b"kept")).unwrap());
    assert!(files(&store, "ingest").is_empty());
    assert_eq!(store.gc(&[package.digest]).unwrap().removed, []);
    assert_eq!(store.gc(&[]).unwrap().removed.len(), 1);
}

#[test]
fn a_root_manifest_keeps_its_layers_without_a_name() {
    let (_directory, store) = store();
    let image = image(&store, b"layer");
    assert_eq!(store.gc(&[image.digest().clone()]).unwrap().kept, 3);
    assert_eq!(store.gc(&[]).unwrap().removed.len(), 3);
}

#[test]
fn nothing_is_removed_while_somebody_holds_the_store() {
    let (_directory, store) = store();
    let blob = store.put_bytes(b"new").unwrap();
    let hold = Store::open(store.path()).unwrap().hold().unwrap();
    let second = store.hold().unwrap();
    assert!(matches!(store.gc(&[]), Err(StoreError::InUse { .. })));
    drop(hold);
    assert!(matches!(store.remove(&blob.digest), Err(StoreError::InUse { .. })));
    drop(second);
    let download = part(&store, b"half");
    assert!(matches!(store.gc(&[]), Err(StoreError::InUse { .. })));
    drop(download);
    assert_eq!(store.gc(&[]).unwrap().removed, [blob.digest]);
}

#[test]
fn a_damaged_layer_does_not_stop_the_sweep() {
    let (_directory, store) = store();
    store.tag(&name("a"), &image(&store, b"layer")).unwrap();
    damage(&store, &of(b"layer"), |bytes| bytes[0] = b'x');
    assert_eq!(store.gc(&[]).unwrap().removed, []);
}

#[test]
fn a_damaged_manifest_stops_the_sweep() {
    let (_directory, store) = store();
    let image = image(&store, b"layer");
    store.tag(&name("a"), &image).unwrap();
    damage(&store, image.digest(), |bytes| bytes[0] = b'[');
    assert!(matches!(store.gc(&[]), Err(StoreError::Graph { digest, .. }) if digest == *image.digest()));
    assert_eq!(files(&store, "blobs/sha256").len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_download_cut_anywhere_ends_the_same(
        content in proptest::collection::vec(any::<u8>(), 1..2000),
        cuts in proptest::collection::vec(1usize..400, 0..6),
    ) {
        let (_directory, store) = store();
        let mut at = 0;
        for cut in cuts {
            let mut part = part(&store, &content);
            prop_assert_eq!(part.length() as usize, at);
            let to = (at + cut).min(content.len());
            part.append(&content[at..to]).unwrap();
            at = to;
        }
        let mut part = part(&store, &content);
        part.append(&content[at..]).unwrap();
        part.commit().unwrap();
        prop_assert_eq!(store.read(&of(&content), 2000).unwrap(), content);
    }
}
