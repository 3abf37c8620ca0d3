use super::{ImageRef, LocalFormat};
use proptest::prelude::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn full(text: &str) -> String {
    text.parse::<ImageRef>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

fn refused(text: &str) -> String {
    text.parse::<ImageRef>().map(|image| image.to_string()).unwrap_err().to_string()
}

#[test]
fn a_short_name_is_one_of_the_hub() {
    for (text, name) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("linuxkit/init:abc", "docker.io/linuxkit/init:abc"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("a/b/c", "docker.io/a/b/c:latest"),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("10.0.0.1:5000/a/b__c/d--e.f_g:V1._-", "10.0.0.1:5000/a/b__c/d--e.f_g:V1._-"),
    ] {
        assert_eq!(full(text), name, "{text}");
    }
}

#[test]
fn a_digest_stands_without_a_tag_or_beside_it() {
    assert_eq!(full(&format!("nginx@{DIGEST}")), format!("docker.io/library/nginx@{DIGEST}"));
    assert_eq!(full(&format!("nginx:1@{DIGEST}")), format!("docker.io/library/nginx:1@{DIGEST}"));
    let ImageRef::Registry(image) = "nginx:1".parse().unwrap() else { panic!("a name of a registry") };
    assert_eq!(image.with_digest(DIGEST).unwrap().to_string(), format!("docker.io/library/nginx:1@{DIGEST}"));
    assert_eq!((image.domain(), image.repository(), image.tag()), ("docker.io", "library/nginx", Some("1")));
    assert!(image.with_digest("sha256:1").is_err());
}

#[test]
fn names_that_are_ours_say_where_the_image_comes_from() {
    assert!(matches!("kit/net".parse().unwrap(), ImageRef::Recipe(name) if name.as_str() == "net"));
    assert!(matches!("docker.io/kit/net".parse().unwrap(), ImageRef::Registry(_)));
    assert!(
        matches!("@pkg:../pkg/init".parse().unwrap(), ImageRef::Template(path) if path.path() == "../pkg/init")
    );
    let ImageRef::Debian(list) = "deb:nginx, curl=7.88.1-10+deb12u8,libc6=1:2~rc1".parse().unwrap() else {
        panic!("packages")
    };
    let packages: Vec<_> = list.packages().iter().map(|p| (p.name(), p.version())).collect();
    let versions = [Some("7.88.1-10+deb12u8"), Some("1:2~rc1")];
    assert_eq!(packages, [("nginx", None), ("curl", versions[0]), ("libc6", versions[1])]);
    for (text, format, path, tag) in [
        ("oci:images/a", LocalFormat::OciLayout, "images/a", None),
        ("oci:/a:b/c:1.0", LocalFormat::OciLayout, "/a:b/c", Some("1.0")),
        ("oci-archive:a.tar", LocalFormat::OciArchive, "a.tar", None),
        ("docker-archive:./a b.tar:latest", LocalFormat::DockerArchive, "./a b.tar", Some("latest")),
    ] {
        let ImageRef::Local(image) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!((image.format(), image.path(), image.tag()), (format, path, tag), "{text}");
    }
}

#[test]
fn what_names_no_image_says_why() {
    for (text, why) in [
        ("", "the image's name is empty"),
        ("Nginx", "`Nginx` is not a part of an image's name"),
        ("nginx:", "`` is not a tag"),
        ("nginx:a:b", "`nginx:a` is not a part"),
        ("nginx:.1", "`.1` is not a tag"),
        ("a//b", "`` is not a part"),
        ("a/b-/c", "`b-` is not a part"),
        ("a___b", "`a___b` is not a part"),
        ("a.-b", "`a.-b` is not a part"),
        ("-a.b/c", "`-a.b` is not the address of a registry"),
        ("a.b:0/c", "`a.b:0` is not the address of a registry"),
        ("[::g]:1/c", "`[::g]:1` is not the address of a registry"),
        ("nginx@sha256:XYZ", "`sha256:XYZ` is not a digest"),
        ("nginx@", "`` is not a digest"),
        ("kit/", "`` is not the name of a recipe"),
        ("kit/a/b", "`a/b` is not the name of a recipe"),
        ("deb:", "`` is not the name of a Debian package"),
        ("deb:a", "`a` is not the name of a Debian package"),
        ("deb:nginx:amd64", "the package `nginx:amd64` names an architecture"),
        ("deb:nginx=beta", "`beta` is not the version of a Debian package"),
        ("oci::tag", "`oci:` is not followed by a path"),
    ] {
        let told = refused(text);
        assert!(told.starts_with(why), "{text}: {told}");
    }
    assert_eq!(refused(&"a".repeat(300)), "the image's name has 318 bytes, and 255 is the limit");
    assert!(refused(&format!("a:{}", "b".repeat(129))).contains("is not a tag"));
}

proptest! {
    #[test]
    fn what_is_written_reads_back(text in prop_oneof![
        "([a-z0-9]{1,4}[./:_@-]{0,2}){0,6}",
        "(kit/|deb:|oci:|oci-archive:|docker-archive:|@pkg:)[a-zA-Z0-9./:,=+~_-]{0,20}",
    ]) {
        if let Ok(image) = text.parse::<ImageRef>() {
            let again: ImageRef = image.to_string().parse().unwrap();
            prop_assert_eq!(&again, &image);
            let json = serde_json::to_string(&image).unwrap();
            prop_assert_eq!(serde_json::from_str::<ImageRef>(&json).unwrap(), image);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        let _ = text.parse::<ImageRef>();
    }
}
