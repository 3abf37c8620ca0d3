//! Registries as their files say: addresses, headers, certificates, and what is asked of whom.

use std::fs;
use std::path::Path;

use kit_oci::reference::Reference;
use kit_oci::registry::{Client, Hosts, Options, Roots};

use crate::peers::{certificate, copy};
use crate::support::*;

/// A registry that answers nowhere but where its file says.
const NAME: &str = "registry.invalid/some/repo:1";

fn name() -> Reference {
    NAME.parse().unwrap()
}

fn client(dir: &Path, text: &str) -> Client {
    fs::create_dir_all(dir.join("registry.invalid")).unwrap();
    fs::write(dir.join("registry.invalid/hosts.toml"), text).unwrap();
    let hosts = Hosts::load(dir, &Roots::built_in()).unwrap_or_else(|error| panic!("{}", shown(&error)));
    Client::new(Options { hosts, ..hasty() })
}

#[test]
fn a_host_gets_its_headers_and_nobody_else_does() {
    let content = Content::image("1", &[b"layer"]);
    let blobs = content.clone();
    // Whom the mirror leads to for blobs.
    let store = Server::start(move |seen| blobs.answer(seen));
    let leads_to = store.host();
    let mirror = Server::start(move |seen| {
        let path = seen.path.strip_prefix("/own").map(|rest| format!("/v2{rest}"));
        match path {
            Some(path) if path.contains("/blobs/") => Answer::redirect(&format!("http://{leads_to}{path}")),
            Some(path) => content.answer(&Seen { path, ..seen.clone() }),
            None => Answer::not_found(),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{0}/own\"]\noverride_path = true\n\
         [host.\"http://{0}/own\".header]\nx-key = \"hunter2\"\n",
        mirror.host()
    );
    let here = place();
    let image = pulled(&here.store, &client(dir.path(), &text), &name());
    assert_eq!(image.unwrap_or_else(|error| panic!("{}", shown(&error))).layers.len(), 1);
    assert!(mirror.count("/own/some/repo/manifests/") > 0 && store.count("/blobs/") == 2);
    let keys = |server: &Server| -> Vec<bool> {
        server.seen().iter().map(|seen| seen.header("x-key") == Some("hunter2")).collect()
    };
    assert!(keys(&mirror).into_iter().all(|has| has));
    assert!(!keys(&store).into_iter().any(|has| has));
    assert!(mirror.seen().iter().all(|seen| seen.query == "ns=registry.invalid"));
}

#[test]
fn a_host_that_fails_has_the_next_behind_it_and_the_server_last() {
    let content = Content::image("1", &[b"layer"]);
    let broken = Server::start(|_| Answer::not_found());
    let good = Server::start(move |seen| content.answer(seen));
    let dir = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", good.host(), broken.host());
    assert!(pulled(&place().store, &client(dir.path(), &text), &name()).is_ok());
    assert!(broken.count("manifests") > 0);
    assert!(good.seen().iter().all(|seen| seen.query.is_empty()));

    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", broken.host(), "127.0.0.1:1");
    let error = shown(&pulled(&place().store, &client(dir.path(), &text), &name()).unwrap_err());
    assert!(error.contains(&broken.host()) && error.contains("404"), "{error}");
}

#[test]
fn a_host_is_believed_as_its_own_file_says() {
    if !installed(&["docker-registry", "skopeo", "umoci", "openssl"]) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    certificate(work.path());
    let file = |name: &str| work.path().join(name).display().to_string();
    let tls = format!("  tls: {{certificate: {}, key: {}}}", file("tls.pem"), file("tls.key"));
    let registry = DockerRegistry::start(&tls, "");
    let layout = umoci_image(work.path(), "amd64");
    copy(&format!("oci:{layout}:1"), &format!("docker://{}/some/repo:1", registry.host()), &[]);

    let pull = |settings: &str| {
        let text =
            format!("server = \"http://127.0.0.1:1\"\n[host.\"https://{}\"]\n{settings}\n", registry.host());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("registry.invalid")).unwrap();
        fs::copy(file("ca.pem"), dir.path().join("registry.invalid/ca.pem")).unwrap();
        pulled(&place().store, &client(dir.path(), &text), &name()).map_err(|error| shown(&error))
    };
    assert!(pull("").unwrap_err().contains("certificate"));
    assert!(pull("ca = \"ca.pem\"").is_ok());
    assert!(pull("skip_verify = true").is_ok());
}
