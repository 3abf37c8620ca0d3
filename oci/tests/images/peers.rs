//! Real registries and the tools of others: what they make is pulled, and what we make they understand.

use std::fs;
use std::path::Path;

use kit_oci::digest::{self, of};
use kit_oci::pull::{self, Image, Source};
use kit_oci::reference::Reference;
use kit_oci::registry::{Client, Credential, Credentials, Mirror, Options, Roots, Secret};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;

use crate::support::*;

const TOOLS: [&str; 3] = ["docker-registry", "skopeo", "umoci"];

fn reference(text: String) -> Reference {
    text.parse().unwrap()
}

pub fn copy(from: &str, to: &str, more: &[&str]) {
    run(
        "skopeo",
        &[&["copy", "--quiet", "--dest-tls-verify=false", "--src-tls-verify=false", from, to][..], more]
            .concat(),
    );
}

fn inspect(image: &str, raw: bool) -> Vec<u8> {
    let raw: &[&str] = if raw { &["--raw"] } else { &[] };
    run("skopeo", &[&["inspect", "--tls-verify=false", image][..], raw].concat())
}

/// What skopeo says of an image must be what we have.
fn agrees(image: &Image, said: &Value) {
    assert_eq!(said["Digest"], image.digest.as_ref());
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.blob.digest().as_ref()).collect();
    assert_eq!(said["Layers"], serde_json::json!(layers));
    assert_eq!(said["Env"], serde_json::json!(image.config.config().as_ref().unwrap().env()));
    assert_eq!(said["Architecture"], image.config.architecture().to_string());
}

/// The layers, decompressed, must be what the diff IDs say.
fn diff_ids_are_right(place: &Place, image: &Image) {
    for layer in &image.layers {
        let mut blob = place.store.open_verified(layer.blob.digest(), Some(layer.blob.size())).unwrap();
        let mut hasher = digest::Hasher::new(digest::Algorithm::Sha256);
        let mut archive = Vec::new();
        match layer.blob.media_type().as_ref() {
            text if text.ends_with("gzip") => {
                std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(blob), &mut archive)
                    .unwrap()
            }
            _ => std::io::Read::read_to_end(&mut blob, &mut archive).unwrap(),
        };
        hasher.update(&archive);
        assert_eq!(hasher.finish(), layer.diff_id);
    }
}

#[test]
fn an_image_of_umoci_is_pulled_by_tag_and_by_digest_as_skopeo_sees_it() {
    if !installed(&TOOLS) {
        return;
    }
    let (registry, work) = (DockerRegistry::start("", ""), tempfile::tempdir().unwrap());
    let layout = umoci_image(work.path(), "amd64");
    let host = registry.host();
    for (format, tag) in [("oci", "oci"), ("v2s2", "docker")] {
        copy(&format!("oci:{layout}:1"), &format!("docker://{host}/some/repo:{tag}"), &["--format", format]);
        let (here, client) = (place(), Client::new(hasty()));
        let by_tag = reference(format!("{host}/some/repo:{tag}"));
        let image = pulled(&here.store, &client, &by_tag).unwrap();
        let said: Value = serde_json::from_slice(&inspect(&format!("docker://{by_tag}"), false)).unwrap();
        agrees(&image, &said);
        assert_eq!(of(&inspect(&format!("docker://{by_tag}"), true)), image.digest);
        diff_ids_are_right(&here, &image);

        let there = place();
        let by_digest = reference(format!("{host}/some/repo@{}", image.digest));
        assert_eq!(pulled(&there.store, &client, &by_digest).unwrap(), image);
        // Our store is a layout that skopeo reads by the name we gave, if the manifest is of OCI's type.
        if format == "oci" {
            let stored = inspect(&format!("oci:{}:{by_tag}", here.store.path().display()), false);
            agrees(&image, &serde_json::from_slice(&stored).unwrap());
        }
    }
}

#[test]
fn a_pull_from_docker_registry_is_resumed_by_range() {
    if !installed(&TOOLS) {
        return;
    }
    let (registry, work) = (DockerRegistry::start("", ""), tempfile::tempdir().unwrap());
    let layout = umoci_image(work.path(), "amd64");
    let name = format!("{}/some/repo:1", registry.host());
    copy(&format!("oci:{layout}:1"), &format!("docker://{name}"), &[]);
    let (here, client) = (place(), Client::new(hasty()));
    let pinned = resolved(&here.store, &client, &reference(name)).unwrap();
    let image = place().store.pull(&pinned, &Source::registry(&client)).unwrap();
    // The beginning of a layer is there already, as a cut pull leaves it.
    let blob = &image.layers[0].blob;
    let file = Path::new(&layout).join("blobs/sha256").join(blob.digest().digest());
    let half = fs::read(file).unwrap()[..blob.size() as usize / 2].to_vec();
    let part = here.store.path().join("ingest").join(format!("sha256-{}.part", blob.digest().digest()));
    fs::write(&part, &half).unwrap();
    let before = fs::metadata(&part).unwrap();
    here.store.pull(&pinned, &Source::registry(&client)).unwrap();
    let blob = here.store.path().join("blobs/sha256").join(blob.digest().digest());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(blob).unwrap().ino(), before.ino(), "the part itself became the blob");
    assert!(here.store.verify().unwrap().corrupt.is_empty());
}

/// bcrypt of `hunter2`, of low cost.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

#[test]
fn a_registry_with_a_password_is_pushed_to_and_pulled_from() {
    if !installed(&TOOLS) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let htpasswd = work.path().join("htpasswd");
    fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}", htpasswd.display());
    let registry = DockerRegistry::start("", &auth);
    let host = registry.host();

    // docker's configuration, as `docker login` writes it.
    let config = work.path().join("config.json");
    fs::write(&config, format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpodW50ZXIy"}}}}}}"#)).unwrap();
    let credentials = Credentials::from_file(&config).unwrap();
    let client = Client::new(Options { credentials, ..hasty() });
    client.ping(&host).unwrap();

    let (here, layout) = (place(), umoci_image(work.path(), "amd64"));
    let index: Value =
        serde_json::from_slice(&fs::read(Path::new(&layout).join("index.json")).unwrap()).unwrap();
    let target: Descriptor = serde_json::from_value(index["manifests"][0].clone()).unwrap();
    for entry in fs::read_dir(Path::new(&layout).join("blobs/sha256")).unwrap() {
        here.store.put_bytes(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
    }
    let name = reference(format!("{host}/some/repo:pushed"));
    here.store.push(&target, &name, &client, &()).unwrap();
    here.store.push(&target, &name, &client, &()).unwrap();
    let there = place();
    let image = pulled(&there.store, &client, &name).unwrap();
    let login = ["--tls-verify=false", "--creds", "user:hunter2"];
    let said = run("skopeo", &[&["inspect", &format!("docker://{name}")][..], &login].concat());
    agrees(&image, &serde_json::from_slice(&said).unwrap());

    let wrong = Credential::Password { user: "user".to_owned(), password: Secret::new("swordfish") };
    for credentials in [Credentials::none(), Credentials::none().with(&host, wrong)] {
        let client = Client::new(Options { credentials, ..hasty() });
        let error = pulled(&place().store, &client, &name).unwrap_err();
        let text = format!("{} {error:?}", shown(&error));
        assert!(text.contains("not allowed") && !text.contains("swordfish"), "{text}");
    }
}

#[test]
fn an_index_is_pushed_and_each_platform_is_what_skopeo_chooses() {
    if !installed(&TOOLS) {
        return;
    }
    let (registry, work) = (DockerRegistry::start("", ""), tempfile::tempdir().unwrap());
    let (here, client) = (place(), Client::new(hasty()));
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let layout = umoci_image(work.path(), architecture);
        for entry in fs::read_dir(Path::new(&layout).join("blobs/sha256")).unwrap() {
            here.store.put_bytes(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        }
        let index: Value =
            serde_json::from_slice(&fs::read(Path::new(&layout).join("index.json")).unwrap()).unwrap();
        let mut entry = index["manifests"][0].clone();
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    let stored = here.store.put_bytes(index.to_string().as_bytes()).unwrap();
    let target = Descriptor::new(MediaType::ImageIndex, stored.size, stored.digest);
    let name = reference(format!("{}/some/repo:multi", registry.host()));
    here.store.push(&target, &name, &client, &()).unwrap();

    assert_eq!(of(&inspect(&format!("docker://{name}"), true)), *target.digest());
    for architecture in ["amd64", "arm64"] {
        let there = place();
        let source = Source::registry(&client);
        let pinned = pull::resolve(&name, &architecture.parse().unwrap(), &there.store, &source).unwrap();
        let image = there.store.pull(&pinned, &source).unwrap();
        assert_eq!(image.config.architecture().to_string(), architecture);
        let chosen = work.path().join(format!("chosen-{architecture}"));
        let chosen = format!("dir:{}", chosen.display());
        run(
            "skopeo",
            &[
                "--override-arch",
                architecture,
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &chosen,
            ],
        );
        let manifest = fs::read(chosen.trim_start_matches("dir:").to_owned() + "/manifest.json").unwrap();
        assert_eq!(of(&manifest), image.digest);
    }
    let error = pull::resolve(&name, &"s390x".parse().unwrap(), &place().store, &Source::registry(&client))
        .unwrap_err();
    assert!(shown(&error).contains("it has linux/amd64, linux/arm64"), "{}", shown(&error));
}

/// A certificate for localhost and 127.0.0.1, signed by an authority of our own: `ca.pem`, `tls.pem`, `tls.key`.
pub fn certificate(below: &Path) {
    let file = |name: &str| below.join(name).display().to_string();
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=an authority of the test"];
    run("openssl", &[&authority[..], &new, &["-keyout", &file("ca.key"), "-out", &file("ca.pem")]].concat());
    let request = ["req", "-subj", "/CN=localhost"];
    run("openssl", &[&request[..], &new, &["-keyout", &file("tls.key"), "-out", &file("tls.csr")]].concat());
    fs::write(below.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let names = [
        "-in",
        &file("tls.csr"),
        "-CA",
        &file("ca.pem"),
        "-CAkey",
        &file("ca.key"),
        "-extfile",
        &file("san"),
    ];
    let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-out", &file("tls.pem")];
    run("openssl", &[&sign[..], &names].concat());
}

#[test]
fn tls_is_believed_with_the_authority_that_was_added_and_with_no_other() {
    if !installed(&TOOLS) || !installed(&["openssl"]) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    certificate(work.path());
    let file = |name: &str| work.path().join(name);
    let tls =
        format!("  tls: {{certificate: {}, key: {}}}", file("tls.pem").display(), file("tls.key").display());
    let registry = DockerRegistry::start(&tls, "");
    let layout = umoci_image(work.path(), "amd64");
    copy(&format!("oci:{layout}:1"), &format!("docker://{}/some/repo:1", registry.host()), &[]);

    // A registry that is nowhere, of which this one is the mirror.
    let name = reference("localhost:1/some/repo:1".to_owned());
    let with = |roots: Roots, host: &str| {
        let mirrors = vec![Mirror::new("*", &format!("https://{host}:{}", registry.port())).unwrap()];
        pulled(&place().store, &Client::new(Options { roots, mirrors, ..hasty() }), &name)
    };
    for host in ["localhost", "127.0.0.1"] {
        with(Roots::built_in().with_file(&file("ca.pem")).unwrap(), host).unwrap();
    }
    let error = with(Roots::of_the_machine().unwrap(), "localhost").unwrap_err();
    assert!(shown(&error).contains("TLS: invalid peer certificate: UnknownIssuer"), "{}", shown(&error));
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    if !installed(&TOOLS) || !installed(&["openssl"]) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    certificate(work.path());
    let file = |name: &str| work.path().join(name);
    let tls =
        format!("  tls: {{certificate: {}, key: {}}}", file("tls.pem").display(), file("tls.key").display());
    let elsewhere = Server::start(|_| Answer::not_found());
    let redirect = format!("{{name: redirect, options: {{baseurl: 'http://{}/'}}}}", elsewhere.host());
    let registry = DockerRegistry::start(&tls, &format!("middleware: {{storage: [{redirect}]}}"));
    let layout = umoci_image(work.path(), "amd64");
    copy(&format!("oci:{layout}:1"), &format!("docker://{}/some/repo:1", registry.host()), &[]);
    let mirrors = vec![Mirror::new("*", &format!("https://{}", registry.host())).unwrap()];
    let roots = Roots::built_in().with_file(&file("ca.pem")).unwrap();
    let client = Client::new(Options { roots, mirrors, ..hasty() });
    let error =
        pulled(&place().store, &client, &reference("localhost:1/some/repo:1".to_owned())).unwrap_err();
    assert!(
        shown(&error).contains("a redirect that is not followed: from https to http"),
        "{}",
        shown(&error)
    );
    assert!(elsewhere.seen().is_empty());
}
