//! From a name to one platform's image, online and offline.

use kit_oci::digest::of;
use kit_oci::pull::{self, PullFault, Source};
use kit_oci::reference::Reference;
use kit_oci::registry::Client;
use oci_spec::image::Descriptor;

use crate::support::*;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry with `:multi`, an index of two platforms and an attestation.
fn multi(media_type: &str) -> (Server, Content) {
    let mut content = Content::default();
    let mut entries = vec![
        content.add_image("arm", "linux/arm64/v8", &[b"arm layer"]),
        content.add_image("amd", "linux/amd64", &[b"amd layer"]),
    ];
    let mut attestation = content.add_image("att", "unknown/unknown", &[b"attestation"]);
    attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
    entries.insert(0, attestation);
    content.add_index("multi", media_type, &entries);
    let served = content.clone();
    (Server::start(move |seen| served.answer(seen)), content)
}

#[test]
fn the_platform_s_image_is_chosen_from_an_index() {
    for media_type in [OCI_INDEX, DOCKER_LIST] {
        let (server, content) = multi(media_type);
        let (here, client) = (place(), Client::new(hasty()));
        let reference = server.reference(":multi");
        for (platform, layer) in [("linux/amd64", b"amd layer"), ("linux/arm64", b"arm layer")] {
            let source = Source::registry(&client);
            let pinned = pull::resolve(&reference, &platform.parse().unwrap(), &here.store, &source).unwrap();
            let image = here.store.pull(&pinned, &source).unwrap();
            assert_eq!(image.layers[0].blob.digest(), &of(layer));
            assert_eq!(pinned.index, Some(of(&content.manifests["multi"].1)));
        }
        // Both platforms are kept under the one name, which stands for the index.
        let names = here.store.names().unwrap();
        assert_eq!((names.len(), names[0].target.digest()), (1, &of(&content.manifests["multi"].1)));
        assert_eq!(here.store.gc(&[]).unwrap().removed, []);
        let asked = server.seen().len();
        for platform in ["linux/amd64", "linux/arm64"] {
            let platform = platform.parse().unwrap();
            let pinned = pull::resolve(&reference, &platform, &here.store, &Source::offline()).unwrap();
            here.store.pull(&pinned, &Source::offline()).unwrap();
        }
        assert_eq!(server.seen().len(), asked);
    }
}

#[test]
fn a_platform_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let (server, _) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let wanted = "linux/s390x".parse().unwrap();
    let error = pull::resolve(&server.reference(":multi"), &wanted, &here.store, &Source::registry(&client))
        .unwrap_err();
    assert_eq!(
        shown(&error),
        format!(
            "get the image {}: no image for linux/s390x in the index (it has linux/amd64, linux/arm64)",
            server.reference(":multi")
        )
    );
}

#[test]
fn a_sole_image_for_another_platform_is_an_error() {
    let (server, _) = multi(OCI_INDEX);
    let error = resolved(&place().store, &Client::new(hasty()), &server.reference(":arm")).unwrap_err();
    assert!(
        shown(&error).ends_with("the only image is for linux/arm64 (want linux/amd64)"),
        "{}",
        shown(&error)
    );
}

#[test]
fn an_index_in_an_index_is_followed_to_a_depth() {
    let mut content = Content::default();
    let mut entry = content.add_image("1", "linux/amd64", &[b"layer"]);
    for level in 1..8 {
        entry = content.add_index(&format!("level{level}"), OCI_INDEX, &[entry]);
    }
    let server = Server::start(move |seen| content.answer(seen));
    let (here, client) = (place(), Client::new(hasty()));
    pulled(&here.store, &client, &server.reference(":level3")).unwrap();
    let error = pulled(&here.store, &client, &server.reference(":level7")).unwrap_err();
    assert!(matches!(*error.source, PullFault::Depth), "{error:?}");
}

#[test]
fn an_index_may_be_asked_for_by_digest() {
    let (server, content) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let reference = server.reference(&format!("@{}", of(&content.manifests["multi"].1)));
    let image = pulled(&here.store, &client, &reference).unwrap();
    assert_eq!(image.layers[0].blob.digest(), &of(b"amd layer"));
    let asked = server.seen().len();
    assert_eq!(pulled(&here.store, &client, &reference).unwrap(), image);
    assert_eq!(server.seen().len(), asked, "what is in the store by digest is not asked for");
}

#[test]
fn a_lock_is_enough_to_pull_again() {
    let (server, _) = multi(OCI_INDEX);
    let client = Client::new(hasty());
    let pinned = resolved(&place().store, &client, &server.reference(":multi")).unwrap();
    let locked = serde_json::to_string(&pinned).unwrap();
    let pinned: pull::Pinned = serde_json::from_str(&locked).unwrap();
    let here = place();
    let image = here.store.pull(&pinned, &Source::registry(&client)).unwrap();
    assert_eq!(image, here.store.image(&pinned).unwrap());
    assert_eq!(here.store.names().unwrap()[0].reference, server.reference(":multi"));
}

#[test]
fn offline_what_is_missing_is_an_error_that_names_it() {
    let (server, _) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let reference = server.reference(":multi");
    let offline = Source::offline();
    let unknown = pull::resolve(&reference, &amd64(), &here.store, &offline).unwrap_err();
    assert_eq!(
        shown(&unknown),
        format!("get the image {reference}: {reference} is not in the store, and nobody may be asked")
    );
    assert!(unknown.hint().is_some());

    let pinned = resolved(&here.store, &client, &reference).unwrap();
    let missing = here.store.pull(&pinned, &offline).unwrap_err();
    assert!(shown(&missing).contains(pinned.digest.as_ref()), "{}", shown(&missing));
    let image = here.store.pull(&pinned, &Source::registry(&client)).unwrap();
    here.store.remove(image.layers[0].blob.digest()).unwrap();
    let missing = here.store.image(&pinned).unwrap_err();
    assert_eq!(
        shown(&missing),
        format!(
            "get the image {reference}: blob {} is not in the store, and nobody may be asked",
            of(b"amd layer")
        )
    );
    assert!(matches!(&*missing.source, PullFault::MissingBlob { digest } if *digest == of(b"amd layer")));
    // The other platform was never fetched.
    let arm = pull::resolve(&reference, &"arm64".parse().unwrap(), &here.store, &offline).unwrap();
    assert!(here.store.pull(&arm, &offline).unwrap_err().hint().is_some());
}

#[test]
fn a_name_that_moved_is_given_to_the_new_image() {
    let old = Content::image("1", &[b"old"]);
    let new = Content::image("1", &[b"new"]);
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_new = moved.clone();
    let server = Server::start(move |seen| {
        let content = if is_new.load(std::sync::atomic::Ordering::SeqCst) { &new } else { &old };
        content.answer(seen)
    });
    let (here, client) = (place(), Client::new(hasty()));
    let reference = server.reference(":1");
    let before = pulled(&here.store, &client, &reference).unwrap();
    moved.store(true, std::sync::atomic::Ordering::SeqCst);
    let after = pulled(&here.store, &client, &reference).unwrap();
    assert_ne!(before, after);
    assert_eq!(here.store.resolve(&reference).unwrap().as_ref().map(Descriptor::digest), Some(&after.digest));
    assert_eq!(here.store.gc(&[]).unwrap().removed.len(), 3);
}

/// Changes one field of an image's manifest or configuration and pulls that.
fn odd(change: impl Fn(&mut Content, &Reference) -> String) -> String {
    let mut content = Content::image("1", &[b"layer"]);
    let any: Reference = "x".parse().unwrap();
    let tag = change(&mut content, &any);
    let server = Server::start(move |seen| content.answer(seen));
    let here = place();
    let error =
        pulled(&here.store, &Client::new(hasty()), &server.reference(&format!(":{tag}"))).unwrap_err();
    assert!(here.store.names().unwrap().is_empty());
    shown(&error)
}

fn manifest(content: &Content) -> serde_json::Value {
    serde_json::from_slice(&content.manifests["1"].1).unwrap()
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let text = odd(|content, _| {
        let mut document = manifest(content);
        document["layers"] = serde_json::json!([]);
        content.add_manifest("odd", "application/vnd.oci.image.manifest.v1+json", &document);
        "odd".to_owned()
    });
    assert!(text.contains("0 layers in the manifest and 1 diff IDs in the configuration sha256:"), "{text}");

    let text = odd(|content, _| {
        let mut document = manifest(content);
        document["config"]["mediaType"] = "application/vnd.example.chart+json".into();
        content.add_manifest("odd", "application/vnd.oci.image.manifest.v1+json", &document);
        "odd".to_owned()
    });
    assert!(
        text.contains("an artifact with a configuration of type application/vnd.example.chart+json"),
        "{text}"
    );

    let text = odd(|content, _| {
        let mut document = manifest(content);
        document["layers"][0]["size"] = 4.into();
        content.add_manifest("odd", "application/vnd.oci.image.manifest.v1+json", &document);
        "odd".to_owned()
    });
    assert!(text.contains("5 bytes are announced (want 4)"), "{text}");

    let text = odd(|content, _| {
        let mut document = manifest(content);
        document["config"]["size"] = (5u64 << 20).into();
        content.add_manifest("odd", "application/vnd.oci.image.manifest.v1+json", &document);
        "odd".to_owned()
    });
    assert!(text.contains("has 5242880 bytes (at most 4194304 are taken)"), "{text}");

    let text = odd(|content, _| {
        let entry = descriptor("application/vnd.oci.image.manifest.v1+json", &content.manifests["1"].1);
        let mut entry = entry;
        entry["size"] = 10.into();
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
        content.add_index("odd", OCI_INDEX, &[entry]);
        "odd".to_owned()
    });
    assert!(text.contains("(its descriptor says 10)"), "{text}");
}

#[test]
fn a_damaged_blob_in_the_store_is_an_error_that_names_the_digest() {
    let content = Content::image("1", &[b"layer"]);
    let server = Server::start(move |seen| content.answer(seen));
    let (here, client) = (place(), Client::new(hasty()));
    let pinned = resolved(&here.store, &client, &server.reference(":1")).unwrap();
    let image = here.store.pull(&pinned, &Source::registry(&client)).unwrap();
    for digest in [&image.digest, &image.config_digest] {
        let path = here.store.path().join("blobs/sha256").join(digest.digest());
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, flipped).unwrap();
        let error = here.store.pull(&pinned, &Source::registry(&client)).unwrap_err();
        let text = shown(&error);
        assert!(text.contains(&format!("blob {digest} is corrupt")), "{text}");
        assert!(error.hint().is_some());
        std::fs::write(&path, whole).unwrap();
    }
    here.store.image(&pinned).unwrap();
    let layer = here.store.path().join("blobs/sha256").join(of(b"layer").digest());
    std::fs::remove_file(&layer).unwrap();
    std::fs::write(&layer, b"lay").unwrap();
    let error = here.store.pull(&pinned, &Source::registry(&client)).unwrap_err();
    assert!(shown(&error).contains("is cut off: 3 of 5 bytes"), "{}", shown(&error));
}

#[test]
fn an_index_is_pulled_whole_with_every_platform_and_attestation() {
    let (server, content) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let (reference, source) = (server.reference(":multi"), Source::registry(&client));
    let root = pull::resolve_root(&reference, &here.store, &source).unwrap();
    let layout = here.store.pull_whole(&reference, &root, &[], &source).unwrap();
    assert_eq!(layout.root, root);
    // The index, and for each of three images a manifest, a configuration and a layer.
    assert_eq!(layout.blobs.len(), 10);
    for blob in &layout.blobs {
        let stored = here.store.read(blob.digest(), 1 << 20).unwrap();
        assert_eq!(stored.len() as u64, blob.size());
    }
    assert_eq!(here.store.names().unwrap()[0].target.digest(), &of(&content.manifests["multi"].1));
    assert_eq!(here.store.gc(&[]).unwrap().removed, []);
    assert_eq!(here.store.whole(&reference, &root, &[]).unwrap(), layout);
}

#[test]
fn of_an_index_only_the_platforms_asked_for_are_pulled() {
    let (server, content) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let (reference, source) = (server.reference(":multi"), Source::registry(&client));
    let root = pull::resolve_root(&reference, &here.store, &source).unwrap();
    let pull = |platforms: &[&str]| {
        let platforms: Vec<_> = platforms.iter().map(|text| text.parse().unwrap()).collect();
        here.store.pull_whole(&reference, &root, &platforms, &source)
    };
    // One image stands for itself.
    let one = pull(&["linux/arm64/v8"]).unwrap();
    assert_eq!((one.root.digest(), one.blobs.len()), (&of(&content.manifests["arm"].1), 3));
    assert!(!here.store.has(&of(b"amd layer")).unwrap() && here.store.has(&of(b"arm layer")).unwrap());
    // Of several, the index as it is, though it says more than there is.
    let two = pull(&["linux/arm64", "linux/amd64"]).unwrap();
    assert_eq!((&two.root, two.blobs.len()), (&root, 7));
    assert!(!here.store.has(&of(b"attestation")).unwrap());
    let error = pull(&["linux/amd64", "linux/s390x"]).unwrap_err();
    assert!(
        shown(&error).ends_with("no image for linux/s390x in the index (it has linux/amd64, linux/arm64)")
    );
    // Nobody was asked for what would complete the index.
    let error = here.store.whole(&reference, &root, &[]).unwrap_err();
    assert!(matches!(*error.source, PullFault::MissingBlob { .. }), "{error:?}");
}

#[test]
fn an_image_alone_must_be_for_every_platform_asked_for() {
    let (server, _) = multi(OCI_INDEX);
    let (here, client) = (place(), Client::new(hasty()));
    let (reference, source) = (server.reference(":arm"), Source::registry(&client));
    let root = pull::resolve_root(&reference, &here.store, &source).unwrap();
    let whole = here.store.pull_whole(&reference, &root, &[], &source).unwrap();
    assert_eq!((&whole.root, whole.blobs.len()), (&root, 3));
    let amd64 = ["linux/amd64".parse().unwrap()];
    let error = here.store.pull_whole(&reference, &root, &amd64, &source).unwrap_err();
    assert!(shown(&error).ends_with("the only image is for linux/arm64 (want linux/amd64)"), "{error:?}");
}
