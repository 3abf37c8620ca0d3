//! A registry that cuts, stalls, lies, redirects and is busy.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit_oci::digest::{Digest, of};
use kit_oci::pull::{Progress, PullFault, Source};
use kit_oci::registry::{Client, Mirror, Options, RegistryError, RequestError, Transport};
use kit_oci::store::Store;

use crate::support::*;

const BIG: usize = 300_000;

fn big() -> Vec<u8> {
    (0..BIG).map(|number| (number * 7 % 251) as u8).collect()
}

/// A registry with one image of one big layer, whose blob is answered by `blob` (the request, its count from 0, and what
/// a good registry would answer).
fn with_blob(blob: impl Fn(&Seen, usize, Answer) -> Answer + Send + Sync + 'static) -> Server {
    let content = Content::image("1", &[&big()]);
    let (layer, count) = (hex(&big()), AtomicUsize::new(0));
    Server::start(move |seen| {
        let good = content.answer(seen);
        if seen.path.ends_with(&layer) {
            blob(seen, count.fetch_add(1, Ordering::SeqCst), good)
        } else {
            good
        }
    })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.digest())
}

/// Pulls `:1`, which must fail; returns the whole text of the error.
fn failing(server: &Server, store: &Store) -> String {
    let client = Client::new(hasty());
    let error = pulled(store, &client, &server.reference(":1")).unwrap_err();
    assert!(!store.has(&of(&big())).unwrap(), "nothing half-written is a blob");
    shown(&error)
}

#[test]
fn an_image_is_pulled_by_tag_and_then_found_without_asking() {
    let content = Content::image("1", &[b"lower", b"upper"]);
    let server = Server::start(move |seen| content.answer(seen));
    let (here, client) = (place(), Client::new(hasty()));
    let reference = server.reference(":1");
    let pinned = resolved(&here.store, &client, &reference).unwrap();
    let image = here.store.pull(&pinned, &Source::registry(&client)).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!((image.layers[1].blob.digest(), &image.layers[1].diff_id), (&of(b"upper"), &of(b"upper")));
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/x"]);
    assert_eq!(here.store.read(image.layers[0].blob.digest(), 10).unwrap(), b"lower");
    assert_eq!(here.store.names().unwrap()[0].reference, reference);

    let asked = server.seen().len();
    assert_eq!(here.store.pull(&pinned, &Source::offline()).unwrap(), image);
    assert_eq!(here.store.pull(&pinned, &Source::registry(&client)).unwrap(), image);
    assert_eq!(here.store.image(&pinned).unwrap(), image);
    assert_eq!(server.seen().len(), asked);
}

#[test]
fn an_image_is_pulled_by_digest() {
    let content = Content::image("1", &[b"layer"]);
    let digest = content.manifests.keys().find(|key| key.starts_with("sha256:")).unwrap().clone();
    let server = Server::start(move |seen| content.answer(seen));
    let (here, client) = (place(), Client::new(hasty()));
    let image = pulled(&here.store, &client, &server.reference(&format!("@{digest}"))).unwrap();
    assert_eq!(image.digest.as_ref(), digest);
    let other = of(b"another");
    let error = pulled(&here.store, &client, &server.reference(&format!("@{other}"))).unwrap_err();
    assert!(shown(&error).contains("status 404 (not known here)"), "{}", shown(&error));
    assert!(error.hint().is_some());
}

#[test]
fn a_cut_blob_is_resumed_where_it_was_cut() {
    let server = with_blob(|_, count, good| if count == 0 { good.cut(100_000) } else { good });
    let (here, client) = (place(), Client::new(hasty()));
    pulled(&here.store, &client, &server.reference(":1")).unwrap();
    assert_eq!(here.store.read(&of(&big()), BIG as u64).unwrap(), big());
    let asked: Vec<_> = server.seen().into_iter().filter(|seen| seen.path.ends_with(&hex(&big()))).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].range(), Some(100_000));
    assert!(files(&here.store, "ingest").is_empty());
}

#[test]
fn a_registry_without_ranges_sends_it_all_again() {
    let content = Content::image("1", &[&big()]);
    let server = with_blob(move |seen, count, good| {
        let whole = content.answer(&Seen { headers: Vec::new(), ..seen.clone() });
        if count == 0 { good.cut(100_000) } else { whole }
    });
    let (here, client) = (place(), Client::new(hasty()));
    pulled(&here.store, &client, &server.reference(":1")).unwrap();
    assert_eq!(server.count(&hex(&big())), 2);
}

#[test]
fn a_registry_that_resumes_elsewhere_is_not_believed() {
    let server = with_blob(|_, count, good| match count {
        0 => good.cut(100_000),
        _ => Answer::bytes(big())
            .with_status(206)
            .header("content-range", &format!("bytes 0-{}/{BIG}", BIG - 1)),
    });
    assert!(failing(&server, &place().store).contains("another range than the one that was asked for"));
}

#[test]
fn what_a_cut_pull_got_is_used_by_the_next() {
    let server =
        with_blob(|seen, _, good| if seen.range() < Some(200_000) { good.cut(70_000) } else { good });
    let here = place();
    let few = Options { retry: kit_oci::registry::Retry { attempts: 1, ..hasty().retry }, ..hasty() };
    let client = Client::new(few);
    let error = pulled(&here.store, &client, &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("cut off after 70000 of 300000 bytes"), "{}", shown(&error));
    assert_eq!(files(&here.store, "ingest").len(), 1);
    pulled(&here.store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    let ranges: Vec<_> =
        server.seen().iter().filter(|seen| seen.path.ends_with(&hex(&big()))).map(Seen::range).collect();
    assert_eq!(ranges, [None, Some(70_000), Some(140_000), Some(210_000)]);
    assert!(files(&here.store, "ingest").is_empty());
}

#[test]
fn a_part_that_went_bad_is_fetched_anew() {
    let server = with_blob(|_, count, good| if count == 0 { good.cut(70_000) } else { good });
    let here = place();
    let once = Options { retry: kit_oci::registry::Retry { attempts: 1, ..hasty().retry }, ..hasty() };
    pulled(&here.store, &Client::new(once), &server.reference(":1")).unwrap_err();
    let part = here.store.path().join("ingest").join(files(&here.store, "ingest").remove(0));
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    pulled(&here.store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    assert_eq!(here.store.read(&of(&big()), BIG as u64).unwrap(), big());
}

#[test]
fn a_blob_that_is_always_cut_is_an_error_after_a_few_attempts() {
    let server = with_blob(|_, _, good| good.cut(10));
    let here = place();
    let text = failing(&server, &here.store);
    assert!(
        text.contains("cut off after 30 of 300000 bytes") && text.contains(of(&big()).as_ref()),
        "{text}"
    );
    assert_eq!(server.count(&hex(&big())), 3);
}

#[test]
fn wrong_content_is_an_error_that_names_the_digest() {
    let server = with_blob(|_, _, _| {
        let mut wrong = big();
        wrong[BIG - 1] ^= 1;
        Answer::bytes(wrong)
    });
    let here = place();
    let text = failing(&server, &here.store);
    assert!(text.contains("wrong content: blob sha256:") && text.contains(of(&big()).as_ref()), "{text}");
    assert_eq!(server.count(&hex(&big())), 1, "wrong content is not asked for again");
    assert!(!here.store.path().join(blob_path(&of(&big()))).exists());
    assert!(files(&here.store, "ingest").is_empty());
}

#[test]
fn more_bytes_than_the_descriptor_says_are_an_error_at_once() {
    let more = || [big(), big()].concat();
    let announced = with_blob(move |_, _, _| Answer::bytes(more()).stalled(0));
    let text = failing(&announced, &place().store);
    assert!(text.contains("600000 bytes are announced (want 300000)"), "{text}");
    let unannounced = with_blob(move |_, _, _| Answer::bytes(more()).chunked());
    let here = place();
    let text = failing(&unannounced, &here.store);
    assert!(text.contains("has more than its 300000 bytes"), "{text}");
    assert!(files(&here.store, "ingest").is_empty());
    assert_eq!(unannounced.count(&hex(&big())), 1);
}

#[test]
fn a_blob_without_an_announced_length_is_taken_if_it_is_right() {
    let server = with_blob(|_, _, good| good.chunked());
    let here = place();
    pulled(&here.store, &Client::new(hasty()), &server.reference(":1")).unwrap();
}

#[test]
fn fewer_bytes_than_the_descriptor_says_are_an_error() {
    let server = with_blob(|_, _, _| Answer::bytes(big()[..1000].to_vec()));
    let text = failing(&server, &place().store);
    assert!(text.contains("1000 bytes are announced (want 300000)"), "{text}");
}

#[test]
fn a_stalled_registry_is_an_error() {
    for at in [0, 1000] {
        let server = with_blob(move |_, _, good| good.stalled(at));
        let began = Instant::now();
        let text = failing(&server, &place().store);
        assert!(text.contains("nothing for 400 ms while reading"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_stalled_manifest_is_an_error() {
    let server = Server::start(|_| Answer::bytes(vec![b' '; 100]).stalled(3));
    let client = Client::new(hasty());
    let error = pulled(&place().store, &client, &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("nothing for 400 ms while reading"), "{}", shown(&error));
}

#[test]
fn a_busy_registry_is_asked_again() {
    let server = with_blob(|_, count, good| match count {
        0 => Answer::status(503),
        1 => Answer::status(429).header("retry-after", "0"),
        _ => good,
    });
    pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    assert_eq!(server.count(&hex(&big())), 3);
}

#[test]
fn a_registry_that_stays_busy_is_given_up() {
    let server = with_blob(|_, _, _| Answer::status(503));
    assert!(failing(&server, &place().store).contains("status 503"));
    assert_eq!(server.count(&hex(&big())), 3);
    let server = with_blob(|_, _, _| Answer::status(429).header("retry-after", "3600"));
    let text = failing(&server, &place().store);
    assert!(text.contains("status 429, to be tried again in 3600 s"), "{text}");
    assert_eq!(server.count(&hex(&big())), 1);
}

#[test]
fn redirects_are_followed_to_other_hosts_and_not_for_ever() {
    let elsewhere = Server::start(|_| Answer::bytes(big()));
    let target = format!("http://{}/signed?key=hunter2", elsewhere.host());
    let server = with_blob(move |_, _, _| Answer::redirect(&target));
    pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    assert_eq!(elsewhere.seen()[0].query, "key=hunter2");

    let server = with_blob(|seen, _, _| Answer::redirect(&format!("{}?again", seen.path)));
    assert!(failing(&server, &place().store).contains("too many in a row"));
    let server = with_blob(|_, _, _| Answer::redirect("file:///etc/passwd"));
    assert!(failing(&server, &place().store).contains("neither http:// nor https://"));
    let server = with_blob(|_, _, _| Answer::redirect("http://plain.example/x"));
    assert!(
        failing(&server, &place().store).contains("plain http is for this machine and listed hosts only")
    );
    let server = with_blob(|_, _, _| Answer::status(302));
    assert!(failing(&server, &place().store).contains("does not say where to"));
}

#[test]
fn a_signed_address_is_not_shown_in_an_error() {
    let elsewhere = Server::start(|_| Answer::status(404));
    let target = format!("http://{}/signed?key=hunter2", elsewhere.host());
    let server = with_blob(move |_, _, _| Answer::redirect(&target));
    let client = Client::new(hasty());
    let error = pulled(&place().store, &client, &server.reference(":1")).unwrap_err();
    let text = format!("{} {error:?}", shown(&error));
    assert!(text.contains("/signed: status 404") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_registry_without_head_is_asked_by_get() {
    let content = Content::image("1", &[b"layer"]);
    let server = Server::start(move |seen| match seen.method.as_str() {
        "HEAD" => Answer::status(405),
        _ => content.answer(seen),
    });
    pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap();
}

#[test]
fn schema_1_is_refused_by_name() {
    let server = Server::start(|_| {
        Answer::json(&serde_json::json!({"schemaVersion": 1, "fsLayers": []}))
            .header("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    });
    let error = pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("docker manifest schema 1 is not supported"), "{}", shown(&error));
}

#[test]
fn a_huge_manifest_is_refused() {
    let server = Server::start(|_| Answer::bytes(vec![b' '; 5 << 20]).chunked());
    let error = pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("more than 4194304 bytes"), "{}", shown(&error));
}

#[test]
fn a_manifest_that_is_not_its_digest_is_refused() {
    let (right, wrong) = (Content::image("1", &[b"a"]), Content::image("1", &[b"b"]));
    let server = Server::start(move |seen| match seen.method.as_str() {
        "HEAD" => right.answer(seen),
        _ => wrong.answer(&Seen { path: "/v2/some/repo/manifests/1".to_owned(), ..seen.clone() }),
    });
    let error = pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("wrong content"), "{}", shown(&error));
}

/// A loopback port where nobody listens.
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    let content = Content::image("1", &[&big()]);
    let without = Server::start(|_| Answer::not_found());
    let lying = {
        let (content, layer) = (content.clone(), hex(&big()));
        Server::start(move |seen| {
            if seen.path.ends_with(&layer) { Answer::bytes(vec![0; BIG]) } else { content.answer(seen) }
        })
    };
    let server = Server::start(move |seen| content.answer(seen));
    let mirror = |host: &str| Mirror::new("*", &format!("http://{host}/prefix")).unwrap();
    let mirrors = vec![mirror(&nobody()), mirror(&without.host()), mirror(&lying.host())];
    let client = Client::new(Options { mirrors, ..hasty() });
    let here = place();
    pulled(&here.store, &client, &server.reference(":1")).unwrap();
    assert_eq!(here.store.read(&of(&big()), BIG as u64).unwrap(), big());
    assert_eq!(server.count(""), 1, "only what no mirror had right is asked of the registry");
    assert_eq!(without.seen()[0].path, "/v2/prefix/some/repo/manifests/1");
    assert_eq!(without.seen()[0].query, format!("ns={}", server.host().replace(':', "%3A")));
}

#[test]
fn a_wrong_beginning_from_a_mirror_is_not_held_against_the_registry() {
    let content = Content::image("1", &[&big()]);
    let mirror = {
        let (content, layer) = (content.clone(), hex(&big()));
        Server::start(move |seen| match seen.path.ends_with(&layer) {
            true if seen.range().is_none() => Answer::bytes(vec![0; BIG]).cut(1000),
            true => Answer::not_found(),
            false => content.answer(seen),
        })
    };
    let server = Server::start(move |seen| content.answer(seen));
    let mirrors = vec![Mirror::new("*", &mirror.host()).unwrap()];
    let here = place();
    pulled(&here.store, &Client::new(Options { mirrors, ..hasty() }), &server.reference(":1")).unwrap();
    assert_eq!(here.store.read(&of(&big()), BIG as u64).unwrap(), big());
    let ranges: Vec<_> = server.seen().iter().map(Seen::range).collect();
    assert_eq!(ranges, [Some(1000), None]);
}

#[test]
fn an_error_lists_the_mirrors_that_failed_before() {
    let without = Server::start(|_| Answer::not_found());
    let server = Server::start(|_| Answer::not_found());
    let mirrors = vec![Mirror::new("*", &without.host()).unwrap()];
    let client = Client::new(Options { mirrors, ..hasty() });
    let error = client.manifest(&server.reference(":1")).unwrap_err();
    assert!(error.is_not_found());
    let text = error.to_string();
    let expected = format!(
        "get the manifest of {} from http://{} (mirrors before: http://{}: GET http://{}/v2/some/repo/manifests/1: \
         status 404 (not known here))",
        server.reference(":1"),
        server.host(),
        without.host(),
        without.host()
    );
    assert_eq!(text, expected);
}

#[test]
fn a_name_that_cannot_be_found_says_so() {
    // The name is too long for any server to be asked.
    let client = Client::new(hasty());
    let error = client.resolve(&format!("{}.invalid/x:1", "a".repeat(64)).parse().unwrap()).unwrap_err();
    let RegistryError::Request { source, .. } = &error else { panic!("{error:?}") };
    assert!(
        matches!(**source, RequestError::Transport { source: Transport::Lookup { .. }, .. }),
        "{error:?}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_blob_is_fetched_once_by_many() {
    let layers: Vec<Vec<u8>> = (0..6u8).map(|number| vec![number; 50_000]).collect();
    let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let content = Content::image("1", &slices);
    let server = Server::start(move |seen| content.answer(seen));
    let here = place();
    let images = thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(here.store.path()).unwrap();
                    pulled(&store, &Client::new(hasty()), &server.reference(":1")).unwrap()
                })
            })
            .collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    for layer in &layers {
        assert_eq!(server.count(&hex(layer)), 1);
    }
    assert!(here.store.verify().unwrap().corrupt.is_empty());
    assert!(files(&here.store, "ingest").is_empty());
}

/// Remembers what it heard; calls the pull off once it heard enough.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<(Digest, u64, u64)>>,
    enough: Option<u64>,
}

impl Progress for Ear {
    fn blob(&self, digest: &Digest, so_far: u64, total: u64) {
        self.heard.lock().unwrap().push((digest.clone(), so_far, total));
    }

    fn is_called_off(&self) -> bool {
        let heard = self.heard.lock().unwrap();
        self.enough
            .is_some_and(|enough| heard.iter().any(|(_, so_far, total)| *total > enough && *so_far > enough))
    }
}

#[test]
fn progress_is_heard_for_each_blob() {
    let server = with_blob(|_, _, good| good);
    let (here, client, ear) = (place(), Client::new(hasty()), Ear::default());
    let pinned = resolved(&here.store, &client, &server.reference(":1")).unwrap();
    here.store.pull(&pinned, &Source::registry(&client).progress(&ear)).unwrap();
    let heard = ear.heard.into_inner().unwrap();
    let big: Vec<u64> =
        heard.iter().filter(|(digest, ..)| *digest == of(&big())).map(|(_, so_far, _)| *so_far).collect();
    assert_eq!((big.first(), big.last()), (Some(&0), Some(&(BIG as u64))));
    assert!(big.is_sorted());
}

#[test]
fn a_pull_that_is_called_off_keeps_what_came() {
    let server = with_blob(|_, _, good| good.stalled(200_000));
    let (here, client) = (place(), Client::new(hasty()));
    let ear = Ear { enough: Some(50_000), ..Ear::default() };
    let pinned = resolved(&here.store, &client, &server.reference(":1")).unwrap();
    let error = here.store.pull(&pinned, &Source::registry(&client).progress(&ear)).unwrap_err();
    assert!(matches!(&*error.source, PullFault::Registry(RegistryError::CalledOff { .. })), "{error:?}");
    assert_eq!(files(&here.store, "ingest").len(), 1);
    assert!(here.store.names().unwrap().is_empty());
}
