use super::*;
use proptest::prelude::*;

const EMPTY_SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A reader that gives at most `step` bytes a call.
struct Steps<'a>(&'a [u8], usize);

impl Read for Steps<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// Everything that comes out before the first error or the end, and how it ended.
fn drain(mut reader: impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut out = Vec::new();
    let mut buffer = [0; 7];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (out, Ok(())),
            Ok(count) => out.extend_from_slice(&buffer[..count]),
            Err(error) => return (out, Err(error)),
        }
    }
}

#[test]
fn known_digests_are_computed() {
    assert_eq!(of(b"").as_ref(), EMPTY_SHA256);
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"abc");
    assert!(hasher.finish().as_ref().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
}

#[test]
fn digests_that_cannot_be_computed_or_that_hide_a_path_are_refused() {
    for text in [
        "",
        "sha256",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "sha256:e3b0",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha384:38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
        "../sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn right_content_ends_with_a_proof() {
    let proof = Verifying::new(&b"abc"[..], of(b"abc"), Some(3)).unwrap().finish().unwrap();
    assert_eq!((proof.size(), proof.digest()), (3, &of(b"abc")));
}

#[test]
fn a_wrong_last_byte_is_never_handed_out_when_the_size_is_known() {
    let content = [b'x'; 100];
    let mut wrong = content;
    wrong[99] = b'y';
    let (out, end) = drain(Verifying::new(Steps(&wrong, 7), of(&content), Some(100)).unwrap());
    assert!(out.len() < 100);
    let error = end.unwrap_err();
    assert!(
        matches!(Mismatch::inside(&error), Some(Mismatch::Content { expected, .. }) if *expected == of(&content))
    );
}

#[test]
fn trailing_bytes_are_an_error_even_after_the_right_content() {
    let (out, end) = drain(Verifying::new(Steps(b"abcd", 3), of(b"abc"), Some(3)).unwrap());
    assert_eq!(out, b"abc");
    assert!(matches!(Mismatch::inside(&end.unwrap_err()), Some(Mismatch::TooLong { expected: 3, .. })));
}

#[test]
fn an_early_end_says_how_much_there_was() {
    let error = Verifying::new(&b"ab"[..], of(b"abc"), Some(3)).unwrap().finish().unwrap_err();
    assert_eq!(error.to_string(), format!("blob {} is cut off: 2 of 3 bytes", of(b"abc")),);
}

#[test]
fn an_error_stays_an_error() {
    let mut reader = Verifying::new(&b"xyz"[..], of(b"abc"), None).unwrap();
    let mut out = Vec::new();
    assert!(reader.read_to_end(&mut out).is_err());
    assert!(reader.read(&mut [0; 4]).is_err());
    assert!(reader.finish().is_err());
}

proptest! {
    #[test]
    fn only_the_very_content_ends_well(
        content in proptest::collection::vec(any::<u8>(), 0..300),
        given in proptest::collection::vec(any::<u8>(), 0..300),
        same in any::<bool>(),
        sized in any::<bool>(),
        step in 1usize..50,
    ) {
        let given = if same { content.clone() } else { given };
        let size = sized.then_some(content.len() as u64);
        let (out, end) = drain(Verifying::new(Steps(&given, step), of(&content), size).unwrap());
        prop_assert_eq!(end.is_ok(), given == content);
        if end.is_ok() {
            prop_assert_eq!(out, content);
        }
    }
}
