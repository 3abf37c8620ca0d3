//! Images from files, good and hostile, and out again.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use kit_oci::archive::{ArchiveError, ExportError, Imported, Limits};
use kit_oci::digest::of;
use kit_oci::pull::{self, Image, Pinned, Source};
use kit_oci::reference::Reference;
use kit_oci::store::{Name, Store};
use serde_json::{Value, json};

use crate::support::*;

/// A stream that cannot be sought and gives little at a time.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.0.len()).min(1013);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn import(store: &Store, archive: &[u8], name: Option<&str>) -> Result<Vec<Imported>, ArchiveError> {
    let name = name.map(|name| name.parse().unwrap());
    store.import_archive(Pipe(archive), name.as_ref(), &Limits::default())
}

fn stored(store: &Store, name: &str) -> Image {
    let name: Reference = name.parse().unwrap();
    let pinned: Pinned = pull::resolve(&name, &amd64(), store, &Source::offline()).unwrap();
    store.image(&pinned).unwrap()
}

/// An archive of regular files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        // Names as they are, which the library would refuse to set.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An archive with one entry of a kind that has no content.
fn odd_entry(name: &str, kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion": "1.0.0"}"#;

/// The files of an OCI archive with one image under a name.
fn oci_files(name: &str) -> Vec<(String, Vec<u8>)> {
    let content = Content::image("1", &[b"lower", b"upper"]);
    let (media_type, manifest) = &content.manifests["1"];
    let mut entry = descriptor(media_type, manifest);
    entry["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let mut files = vec![
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("oci-layout".to_owned(), LAYOUT.to_vec()),
    ];
    for blob in content.blobs.values().chain([manifest]) {
        files.push((format!("blobs/sha256/{}", hex(blob)), blob.clone()));
    }
    files
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    archive(&files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
}

/// The files of a docker-archive with one image.
fn docker_files(layers: &[(&str, &[u8])], diff_ids: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {"Cmd": null, "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids.iter().map(|layer| of(layer)).collect::<Vec<_>>()},
    });
    let names: Vec<&str> = layers.iter().map(|(name, _)| *name).collect();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["busybox:1", "localhost/x:2"], "Layers": names}]);
    let mut files: Vec<_> =
        layers.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
    files.push(("config.json".to_owned(), config.to_string().into_bytes()));
    files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    files
}

#[test]
fn an_oci_archive_is_taken_with_its_name_wherever_its_index_stands() {
    let mut files = oci_files("docker.io/library/busybox:1");
    for _ in 0..2 {
        files.reverse();
        let here = place();
        let images = import(&here.store, &packed(&files), None).unwrap();
        assert_eq!(images[0].names, ["docker.io/library/busybox:1".parse().unwrap()]);
        let image = stored(&here.store, "busybox:1");
        assert_eq!(here.store.read(image.layers[1].blob.digest(), 10).unwrap(), b"upper");
        assert_eq!(here.store.gc(&[]).unwrap().removed, []);
    }
}

#[test]
fn a_given_name_takes_the_place_of_the_others() {
    let here = place();
    let images = import(&here.store, &packed(&oci_files("busybox:1")), Some("mine:2")).unwrap();
    assert_eq!(images[0].names, ["mine:2".parse().unwrap()]);
    assert_eq!(here.store.names().unwrap().len(), 1);
}

#[test]
fn an_image_without_a_whole_name_is_kept_by_its_digest_only() {
    let here = place();
    let images = import(&here.store, &packed(&oci_files("latest")), None).unwrap();
    assert!(images[0].names.is_empty() && here.store.names().unwrap().is_empty());
    assert!(here.store.has(images[0].target.digest()).unwrap());
}

#[test]
fn compressed_archives_are_taken_too() {
    let plain = packed(&oci_files("docker.io/library/busybox:1"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for compressed in [gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()] {
        let here = place();
        import(&here.store, &compressed, None).unwrap();
        stored(&here.store, "busybox:1");
        assert!(import(&place().store, &compressed[..compressed.len() - 20], None).is_err());
    }
}

#[test]
fn a_docker_archive_gives_the_same_image_each_time() {
    let files = docker_files(&[("a/layer.tar", b"lower"), ("b/layer.tar", b"upper")], &[b"lower", b"upper"]);
    let (here, there) = (place(), place());
    let images = import(&here.store, &packed(&files), None).unwrap();
    assert_eq!(images, import(&there.store, &packed(&files), None).unwrap());
    assert_eq!(images[0].names, ["busybox:1".parse().unwrap(), "localhost/x:2".parse().unwrap()]);
    let image = stored(&here.store, "busybox:1");
    assert_eq!(image.layers[0].blob.digest(), &of(b"lower"));
    assert_eq!(image.layers[0].diff_id, of(b"lower"));
    assert_eq!(image.layers[0].blob.media_type().as_ref(), "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(here.store.gc(&[]).unwrap().removed, []);
}

#[test]
fn compressed_layers_of_a_docker_archive_are_known_by_their_diff_id() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"lower").unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::encode_all(&b"upper"[..], 1).unwrap());
    let files = docker_files(&[("a.tar.gz", &gzip), ("b.tar.zst", &zstd)], &[b"lower", b"upper"]);
    let here = place();
    import(&here.store, &packed(&files), None).unwrap();
    let image = stored(&here.store, "busybox:1");
    let types: Vec<&str> = image.layers.iter().map(|layer| layer.blob.media_type().as_ref()).collect();
    assert_eq!(
        types,
        ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"]
    );
    let wrong = docker_files(&[("a.tar.gz", &gzip)], &[b"upper"]);
    let error = import(&place().store, &packed(&wrong), None).unwrap_err();
    assert!(matches!(&error, ArchiveError::Layer { found, .. } if *found == of(b"lower")), "{error:?}");
}

#[test]
fn links_to_layers_are_followed_inside_the_archive() {
    let files = docker_files(&[("a/layer.tar", b"lower")], &[b"lower", b"lower"]);
    let mut files: Vec<_> = files.into_iter().filter(|(name, _)| name != "manifest.json").collect();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    let link = |target| {
        let link = odd_entry("b/layer.tar", tar::EntryType::Symlink, target);
        [&link[..512], &packed(&files)].concat()
    };
    let images = import(&place().store, &link("../a/layer.tar"), Some("x:1")).unwrap();
    assert_eq!(images.len(), 1);
    for outside in ["../../a/layer.tar", "/etc/passwd"] {
        let error = import(&place().store, &link(outside), Some("x:1")).unwrap_err();
        assert_eq!(error.to_string(), "`b/layer.tar` in the archive is a link out of the archive");
    }
    for nowhere in ["../b/layer.tar", "../c/layer.tar", "../manifest.json"] {
        let error = import(&place().store, &link(nowhere), Some("x:1")).unwrap_err();
        assert!(matches!(error, ArchiveError::NoFile { .. }), "{error:?}");
    }
}

/// What a refused archive leaves: no name, no blob that is not its digest, nothing half-written.
fn refused(archive: &[u8]) -> String {
    let here = place();
    let error = import(&here.store, archive, None).unwrap_err();
    assert!(here.store.names().unwrap().is_empty());
    let report = here.store.verify().unwrap();
    assert!(report.corrupt.is_empty() && report.strange.is_empty());
    assert!(files(&here.store, "ingest").is_empty());
    here.store.gc(&[]).unwrap();
    assert!(files(&here.store, "blobs/sha256").is_empty());
    shown(&error)
}

fn with(name: &str, content: &[u8]) -> Vec<u8> {
    let mut files = oci_files("docker.io/library/busybox:1");
    files.retain(|(old, _)| old != name);
    files.push((name.to_owned(), content.to_vec()));
    packed(&files)
}

#[test]
fn a_blob_that_is_not_its_name_is_refused() {
    let name = format!("blobs/sha256/{}", hex(b"lower"));
    let text = refused(&with(&name, b"lowex"));
    assert!(text.contains(of(b"lower").as_ref()) && text.contains("is corrupt"), "{text}");
}

#[test]
fn names_that_lead_out_or_are_no_digest_are_refused() {
    for name in ["../evil", "blobs/../../evil", "blobs/sha256/../../evil", "a/../../evil"] {
        assert!(refused(&with(name, b"x")).contains(".."), "{name}");
    }
    for name in
        ["blobs/sha256/evil", "blobs/md5/d41d8cd98f00b204e9800998ecf8427e", "blobs/x", "blobs/sha256/a/b"]
    {
        assert!(
            refused(&with(name, b"x")).contains(&format!("use `{name}` in the archive as a blob")),
            "{name}"
        );
    }
}

#[test]
fn entries_that_no_image_archive_has_are_refused() {
    for kind in [tar::EntryType::Char, tar::EntryType::Block, tar::EntryType::Fifo] {
        assert!(
            refused(&odd_entry("index.json", kind, "")).contains("neither a file nor a directory nor a link")
        );
    }
    let twice = archive(&[("oci-layout", LAYOUT), ("./oci-layout", LAYOUT)]);
    assert!(refused(&twice).contains("`oci-layout` in the archive is there twice"));
}

#[test]
fn documents_that_are_too_large_are_refused() {
    let huge = vec![b' '; (4 << 20) + 1];
    assert_eq!(
        refused(&with("index.json", &huge)),
        "index.json has 4194305 bytes (at most 4194304 are read)"
    );
    let name = hex(&huge);
    let entry = descriptor("application/vnd.oci.image.manifest.v1+json", &huge);
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let big = archive(&[
        ("oci-layout", LAYOUT),
        ("index.json", index.as_bytes()),
        (&format!("blobs/sha256/{name}"), &huge),
    ]);
    assert!(refused(&big).contains("has 4194305 bytes (at most 4194304 are taken)"));
}

#[test]
fn limits_hold() {
    let good = packed(&oci_files("docker.io/library/busybox:1"));
    for limits in [
        Limits { max_entries: 4, ..Limits::default() },
        Limits { max_blob: 4, ..Limits::default() },
        Limits { max_total: 1000, ..Limits::default() },
    ] {
        let error = place().store.import_archive(&good[..], None, &limits).unwrap_err();
        assert!(matches!(error, ArchiveError::Archive { .. }), "{error:?}");
    }
}

#[test]
fn what_an_image_needs_must_be_there() {
    let all = oci_files("docker.io/library/busybox:1");
    for (missing, _) in all.iter().filter(|(name, _)| name.starts_with("blobs/")) {
        let files: Vec<_> = all.iter().filter(|(name, _)| name != missing).cloned().collect();
        let text = refused(&packed(&files));
        let digest = missing.trim_start_matches("blobs/sha256/");
        assert_eq!(text, format!("blob sha256:{digest} is neither in the archive nor in the store"));
    }
    for missing in ["index.json", "oci-layout"] {
        let files: Vec<_> = all.iter().filter(|(name, _)| name != missing).cloned().collect();
        assert!(
            refused(&packed(&files)).contains("has neither oci-layout and index.json, nor manifest.json")
        );
    }
    assert!(
        refused(&with("oci-layout", br#"{"imageLayoutVersion": "2.0.0"}"#)).contains("not of version 1.0.0")
    );
    assert!(refused(&with("index.json", b"[]")).contains("read index.json"));
    assert!(refused(b"").contains("has neither"));
    assert!(refused(&[7; 2000]).contains("read the archive"));
}

#[test]
fn a_size_that_is_not_the_blob_s_is_refused() {
    let mut files = oci_files("docker.io/library/busybox:1");
    let index = &mut files[0].1;
    let mut document: Value = serde_json::from_slice(index).unwrap();
    document["manifests"][0]["size"] = 5.into();
    *index = document.to_string().into_bytes();
    assert!(refused(&packed(&files)).contains("has more than its 5 bytes"));
}

#[test]
fn what_a_docker_archive_says_must_be_so() {
    let lying = docker_files(&[("a/layer.tar", b"lower")], &[b"upper"]);
    let text = refused(&packed(&lying));
    assert_eq!(
        text,
        format!("layer `a/layer.tar` is {} (the configuration says {})", of(b"lower"), of(b"upper"))
    );
    let fewer = docker_files(&[("a/layer.tar", b"lower")], &[b"lower", b"upper"]);
    assert!(refused(&packed(&fewer)).contains("1 layers in manifest.json and 2 diff IDs in `config.json`"));
    let mut missing = docker_files(&[("a/layer.tar", b"lower")], &[b"lower"]);
    missing.remove(0);
    assert!(
        refused(&packed(&missing)).contains("manifest.json names `a/layer.tar`, which is not in the archive")
    );
}

#[test]
fn one_name_for_two_images_is_refused() {
    let mut two = docker_files(&[("a", b"a"), ("b", b"b")], &[b"a", b"b"]);
    let config =
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [of(b"a")]}});
    two.push(("other.json".to_owned(), config.to_string().into_bytes()));
    let entry =
        |config: &str, layers: &[&str]| json!({"Config": config, "RepoTags": ["x:1"], "Layers": layers});
    let manifest = json!([entry("config.json", &["a", "b"]), entry("other.json", &["a"])]);
    two.retain(|(name, _)| name != "manifest.json");
    two.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    assert_eq!(refused(&packed(&two)), "two images are called docker.io/library/x:1");
    let error = import(&place().store, &packed(&two), Some("y:1")).unwrap_err();
    assert_eq!(error.to_string(), "give one name to 2 images");
}

#[test]
fn an_archive_cut_anywhere_gives_no_image_or_the_whole_one() {
    let good = packed(&oci_files("docker.io/library/busybox:1"));
    for end in (0..good.len()).step_by(509) {
        let here = place();
        match import(&here.store, &good[..end], None) {
            Ok(_) => drop(stored(&here.store, "busybox:1")),
            Err(_) => assert!(here.store.names().unwrap().is_empty()),
        }
        assert!(here.store.verify().unwrap().corrupt.is_empty());
    }
}

fn layout_directory(files: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

#[test]
fn a_layout_directory_is_taken_without_what_its_index_does_not_need() {
    let mut files = oci_files("docker.io/library/busybox:1");
    files.push((format!("blobs/sha256/{}", hex(b"x")), b"not x".to_vec()));
    let directory = layout_directory(&files);
    let here = place();
    here.store.import_layout(directory.path(), None).unwrap();
    stored(&here.store, "busybox:1");
    assert_eq!(here.store.verify().unwrap().blobs, 4);
}

#[test]
fn a_layout_directory_with_a_damaged_blob_or_a_link_is_refused() {
    let files = oci_files("docker.io/library/busybox:1");
    for damage in 0..3 {
        let directory = layout_directory(&files);
        let blob = directory.path().join("blobs/sha256").join(hex(b"lower"));
        fs::remove_file(&blob).unwrap();
        match damage {
            0 => fs::write(&blob, b"lowex").unwrap(),
            1 => {
                let elsewhere = directory.path().join("elsewhere");
                fs::write(&elsewhere, b"lower").unwrap();
                std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
            }
            _ => {}
        }
        let here = place();
        assert!(here.store.import_layout(directory.path(), None).is_err());
        assert!(here.store.names().unwrap().is_empty());
        assert!(!here.store.has(&of(b"lower")).unwrap());
    }
    let error = place().store.import_layout(Path::new("/nonexistent"), None).unwrap_err();
    assert!(error.to_string().contains("/nonexistent has neither"), "{error}");
}

#[test]
fn an_export_is_the_same_each_time_and_can_be_taken_again() {
    let here = place();
    import(&here.store, &packed(&oci_files("docker.io/library/busybox:1")), None).unwrap();
    let export = |store: &Store| {
        let mut out = Vec::new();
        store.export(&store.names().unwrap(), &mut out).unwrap();
        out
    };
    let first = export(&here.store);
    assert_eq!(first, export(&here.store));
    let there = place();
    import(&there.store, &first, None).unwrap();
    assert_eq!(stored(&there.store, "busybox:1"), stored(&here.store, "busybox:1"));
    assert_eq!(export(&there.store), first);
}

#[test]
fn a_damaged_blob_is_not_exported() {
    let here = place();
    import(&here.store, &packed(&oci_files("docker.io/library/busybox:1")), None).unwrap();
    let blob = here.store.path().join("blobs/sha256").join(hex(b"upper"));
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, b"uppex").unwrap();
    let error = here.store.export(&here.store.names().unwrap(), std::io::sink()).unwrap_err();
    assert!(matches!(error, ExportError::Store(_)), "{error:?}");
    assert!(shown(&error).contains(of(b"upper").as_ref()));
}

/// What skopeo says of an image that it reads itself.
fn inspected(image: &str) -> Value {
    serde_json::from_slice(&run("skopeo", &["inspect", image])).unwrap()
}

fn digests(image: &Image) -> Value {
    json!(image.layers.iter().map(|layer| layer.blob.digest().to_string()).collect::<Vec<_>>())
}

#[test]
fn what_umoci_and_skopeo_write_is_taken_as_skopeo_sees_it() {
    if !installed(&["skopeo", "umoci"]) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let layout = umoci_image(work.path(), "amd64");
    let said = inspected(&format!("oci:{layout}:1"));
    let here = place();
    let name: Reference = "localhost/from-layout:1".parse().unwrap();
    let images = here.store.import_layout(Path::new(&layout), Some(&name)).unwrap();
    assert_eq!(said["Digest"], images[0].target.digest().as_ref());
    assert_eq!(said["Layers"], digests(&stored(&here.store, "localhost/from-layout:1")));

    let file = |name: &str| work.path().join(name).display().to_string();
    let source = format!("oci:{layout}:1");
    run("skopeo", &["copy", "--quiet", &source, &format!("oci-archive:{}:localhost/x:1", file("oci.tar"))]);
    let images = import(&here.store, &fs::read(file("oci.tar")).unwrap(), None).unwrap();
    assert_eq!(images[0].names, ["localhost/x:1".parse().unwrap()]);
    assert_eq!(said["Digest"], images[0].target.digest().as_ref());

    run(
        "skopeo",
        &["copy", "--quiet", &source, &format!("docker-archive:{}:localhost/y:1", file("docker.tar"))],
    );
    let images = import(&here.store, &fs::read(file("docker.tar")).unwrap(), None).unwrap();
    assert_eq!(images[0].names, ["localhost/y:1".parse().unwrap()]);
    let (from_docker, from_layout) =
        (stored(&here.store, "localhost/y:1"), stored(&here.store, "localhost/x:1"));
    let diff_ids = |image: &Image| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    assert_eq!(diff_ids(&from_docker), diff_ids(&from_layout));
    assert_eq!(from_docker.config.config(), from_layout.config.config());
}

#[test]
fn what_we_export_is_read_by_skopeo() {
    if !installed(&["skopeo", "umoci"]) {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let layout = umoci_image(work.path(), "amd64");
    let here = place();
    let name: Reference = "localhost/x:1".parse().unwrap();
    let images = here.store.import_layout(Path::new(&layout), Some(&name)).unwrap();
    let file = work.path().join("out.tar");
    let exported = [Name { reference: name, target: images[0].target.clone() }];
    here.store.export(&exported, fs::File::create(&file).unwrap()).unwrap();
    for source in
        [format!("oci-archive:{}", file.display()), format!("oci-archive:{}:localhost/x:1", file.display())]
    {
        assert_eq!(inspected(&source)["Digest"], images[0].target.digest().as_ref());
    }
    let copy = format!("oci:{}:copied", work.path().join("copy").display());
    run("skopeo", &["copy", "--quiet", &format!("oci-archive:{}", file.display()), &copy]);
    assert_eq!(inspected(&copy)["Digest"], images[0].target.digest().as_ref());
}
