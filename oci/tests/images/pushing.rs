//! From the store to a registry, and back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kit_oci::digest::of;
use kit_oci::registry::{Client, Credential, Credentials, Options, Secret};
use oci_spec::image::Descriptor;

use crate::support::*;

/// A registry that takes uploads, if it is told the right password.
fn writable() -> (Server, Arc<Mutex<Content>>) {
    let content = Arc::new(Mutex::new(Content::default()));
    let kept = content.clone();
    let server = Server::start(move |seen| {
        let mut content = kept.lock().unwrap();
        if seen.header("authorization") != Some("Basic dXNlcjpodW50ZXIy") {
            return Answer::status(401).header("www-authenticate", "Basic realm=\"x\"");
        }
        match seen.method.as_str() {
            "POST" => Answer::status(202).header("location", "/v2/some/repo/blobs/uploads/session?state=x"),
            "PUT" if seen.path.contains("/uploads/") => {
                let digest = seen.query.strip_prefix("state=x&digest=").unwrap().replace("%3A", ":");
                if of(&seen.body).as_ref() != digest {
                    return Answer::status(400);
                }
                content.blobs.insert(digest, seen.body.clone());
                Answer::status(201)
            }
            "PUT" => {
                let document: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
                let parts = document["layers"].as_array().into_iter().flatten();
                if parts.into_iter().any(|part| !content.blobs.contains_key(part["digest"].as_str().unwrap()))
                {
                    return Answer::status(400);
                }
                let name = seen.path.rsplit('/').next().unwrap();
                let media_type = seen.header("content-type").unwrap();
                for name in [name, of(&seen.body).as_ref()] {
                    content.manifests.insert(name.to_owned(), (media_type.to_owned(), seen.body.clone()));
                }
                Answer::status(201).header("docker-content-digest", of(&seen.body).as_ref())
            }
            _ => content.answer(seen),
        }
    });
    (server, content)
}

fn client(server: &Server) -> Client {
    let credential = Credential::Password { user: "user".to_owned(), password: Secret::new("hunter2") };
    Client::new(Options { credentials: Credentials::none().with(&server.host(), credential), ..hasty() })
}

/// A store with `:multi`, an index of two images that share a layer.
fn stocked() -> (Place, Descriptor) {
    let mut content = Content::default();
    let entries = [
        content.add_image("a", "linux/amd64", &[b"shared", b"amd"]),
        content.add_image("b", "linux/arm64", &[b"shared", b"arm"]),
    ];
    let index = content.add_index("multi", "application/vnd.oci.image.index.v1+json", &entries);
    let here = place();
    for blob in content.blobs.values().chain(content.manifests.values().map(|(_, bytes)| bytes)) {
        here.store.put_bytes(blob).unwrap();
    }
    (here, serde_json::from_value(index).unwrap())
}

#[test]
fn an_index_is_pushed_with_all_that_it_needs_and_pulled_again() {
    let (server, content) = writable();
    let (here, index) = stocked();
    here.store.push(&index, &server.reference(":multi"), &client(&server), &()).unwrap();
    let pushed = content.lock().unwrap().clone();
    assert_eq!(pushed.blobs.len(), 5);
    assert_eq!(pushed.manifests.len(), 4);
    assert!(pushed.manifests.contains_key("multi"));

    let there = place();
    let image = pulled(&there.store, &client(&server), &server.reference(":multi")).unwrap();
    assert_eq!(image.layers[1].blob.digest(), &of(b"amd"));

    let uploads = server.count("/uploads/");
    here.store.push(&index, &server.reference(":multi"), &client(&server), &()).unwrap();
    assert_eq!(server.count("/uploads/"), uploads, "what is there is not sent again");
}

#[test]
fn a_damaged_blob_is_not_pushed() {
    let (server, content) = writable();
    let (here, index) = stocked();
    let path = here.store.path().join("blobs/sha256").join(of(b"amd").digest());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"amx").unwrap();
    let error = here.store.push(&index, &server.reference(":multi"), &client(&server), &()).unwrap_err();
    let text = shown(&error);
    assert!(text.contains(&format!("blob {} is corrupt", of(b"amd"))), "{text}");
    assert!(!content.lock().unwrap().manifests.contains_key("multi"));
}

#[test]
fn an_incomplete_index_is_not_pushed() {
    let (server, content) = writable();
    let (here, index) = stocked();
    here.store.remove(&of(b"arm")).unwrap();
    let error = here.store.push(&index, &server.reference(":multi"), &client(&server), &()).unwrap_err();
    assert!(shown(&error).contains(of(b"arm").as_ref()) && error.hint().is_some(), "{}", shown(&error));
    assert!(!content.lock().unwrap().manifests.contains_key("multi"));
}

#[test]
fn a_push_that_is_not_allowed_shows_no_password() {
    let (server, _) = writable();
    let (here, index) = stocked();
    let wrong = Credential::Password { user: "user".to_owned(), password: Secret::new("swordfish") };
    let credentials = Credentials::none().with(&server.host(), wrong);
    let client = Client::new(Options { credentials, ..hasty() });
    let error = here.store.push(&index, &server.reference(":multi"), &client, &()).unwrap_err();
    let text = format!("{} {error:?}", shown(&error));
    assert!(text.contains("not allowed") && !text.contains("swordfish"), "{text}");
}

#[test]
fn an_upload_to_another_host_gets_no_credential() {
    let kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    let put = kept.clone();
    let elsewhere = Server::start(move |seen| {
        put.lock().unwrap().insert(seen.query.clone(), seen.body.clone());
        Answer::status(201)
    });
    let target = format!("http://{}/upload", elsewhere.host());
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Answer::status(401).header("www-authenticate", "Basic realm=\"x\""),
        (_, "POST") => Answer::status(202).header("location", &target),
        (_, "PUT") => Answer::status(201),
        _ => Answer::status(404),
    });
    let (here, index) = stocked();
    here.store.push(&index, &server.reference(":multi"), &client(&server), &()).unwrap();
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 5);
    let key = format!("digest={}", of(b"amd").to_string().replace(':', "%3A"));
    assert_eq!(of(&kept[&key]), of(b"amd"));
}
