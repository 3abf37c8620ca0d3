//! Logging in, and keeping what is secret to those it is for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kit_oci::registry::{Client, Credential, Credentials, Options, Secret};

use crate::support::*;

/// base64 of `user:hunter2`.
const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

fn password() -> Credential {
    Credential::Password { user: "user".to_owned(), password: Secret::new("hunter2") }
}

fn client(server: &Server, credential: Credential) -> Client {
    Client::new(Options { credentials: Credentials::none().with(&server.host(), credential), ..hasty() })
}

fn image() -> Content {
    Content::image("1", &[b"lower", b"upper"])
}

/// A registry that wants a token, and hands some out: `tokens` decides what a token request gets, `valid` whether the
/// registry takes the header.
fn with_tokens(
    tokens: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    valid: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    let (content, host) = (image(), Arc::new(Mutex::new(String::new())));
    let named = host.clone();
    let server = Server::start(move |seen| {
        if seen.path == "/token" {
            return tokens(seen);
        }
        if seen.header("authorization").is_some_and(&valid) {
            return content.answer(seen);
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"the registry\",scope=\"repository:some/repo:pull\"",
            named.lock().unwrap()
        );
        Answer::status(401).header("www-authenticate", &challenge)
    });
    *host.lock().unwrap() = server.host();
    server
}

fn token(text: &str) -> Answer {
    Answer::json(&serde_json::json!({"token": text, "expires_in": 300}))
}

#[test]
fn a_token_is_fetched_once_with_the_password_and_used_for_all() {
    let server = with_tokens(|_| token("t1"), |header| header == "Bearer t1");
    pulled(&place().store, &client(&server, password()), &server.reference(":1")).unwrap();
    let asked: Vec<_> = server.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].query, "service=the%20registry&scope=repository%3Asome%2Frepo%3Apull");
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    let refused = server.seen().iter().filter(|seen| seen.header("authorization").is_none()).count();
    assert_eq!(refused, 1, "only the first request is sent without a token");
}

#[test]
fn a_token_is_fetched_in_nobody_s_name_without_a_credential() {
    let server = with_tokens(
        |_| Answer::json(&serde_json::json!({"access_token": "a"})),
        |header| header == "Bearer a",
    );
    pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap();
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| seen.path == "/token")
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[test]
fn a_refused_token_is_replaced() {
    // Each token is good for three requests, whatever was said of its life.
    let handed_out = Arc::new(AtomicUsize::new(0));
    let (last, used) = (handed_out.clone(), Mutex::new((String::new(), 0)));
    let server = with_tokens(
        move |_| token(&format!("t{}", handed_out.fetch_add(1, Ordering::SeqCst) + 1)),
        move |header| {
            let mut used = used.lock().unwrap();
            if used.0 != header {
                *used = (header.to_owned(), 0);
            }
            used.1 += 1;
            header == format!("Bearer t{}", last.load(Ordering::SeqCst)) && used.1 <= 3
        },
    );
    pulled(&place().store, &client(&server, password()), &server.reference(":1")).unwrap();
    assert_eq!(server.count("/token"), 2, "two threads that are refused fetch one token");
}

#[test]
fn an_expired_token_is_not_sent() {
    let handed_out = AtomicUsize::new(0);
    let server = with_tokens(
        move |_| {
            let text = format!("t{}", handed_out.fetch_add(1, Ordering::SeqCst));
            Answer::json(&serde_json::json!({"token": text, "expires_in": 0}))
        },
        |_| true,
    );
    let client = client(&server, password());
    let reference = server.reference(":1");
    for _ in 0..3 {
        client.manifest(&reference).unwrap();
    }
    let mut sent: Vec<_> = server
        .seen()
        .iter()
        .filter(|seen| seen.path != "/token")
        .filter_map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(sent.len(), 3);
    sent.dedup();
    assert_eq!(sent.len(), 3, "no token is sent twice: {sent:?}");
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = with_tokens(|_| token("t1"), |header| header == "Bearer t1");
    let client = client(&server, Credential::Identity(Secret::new("id+token")));
    pulled(&place().store, &client, &server.reference(":1")).unwrap();
    let asked = server.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(
        String::from_utf8(asked.body).unwrap(),
        "grant_type=refresh_token&client_id=kit&service=the%20registry&scope=repository%3Asome%2Frepo%3Apull\
         &refresh_token=id%2Btoken"
    );
}

#[test]
fn a_password_is_sent_only_after_it_was_asked_for() {
    let content = image();
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => content.answer(seen),
        _ => Answer::status(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    pulled(&place().store, &client(&server, password()), &server.reference(":1")).unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
    client(&server, password()).ping(&server.host()).unwrap();
    let error = Client::new(hasty()).ping(&server.host()).unwrap_err();
    assert!(shown(&error).contains("not allowed without a login"), "{}", shown(&error));
    assert_eq!(error.hint(), Some("log in to the registry, as with docker login"));
}

#[test]
fn no_credential_follows_a_redirect_to_another_host() {
    let content = image();
    let elsewhere = Server::start({
        let content = content.clone();
        move |seen| content.answer(seen)
    });
    let target = elsewhere.host();
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) if seen.path.contains("/blobs/") => {
            Answer::redirect(&format!("http://{target}{}", seen.path))
        }
        Some(BASIC) => content.answer(seen),
        _ => Answer::status(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    pulled(&place().store, &client(&server, password()), &server.reference(":1")).unwrap();
    assert_eq!(elsewhere.seen().len(), 3);
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn another_host_cannot_ask_for_the_credential() {
    let elsewhere = Server::start(|_| Answer::status(401).header("www-authenticate", "Basic realm=\"x\""));
    let (content, target) = (image(), elsewhere.host());
    let server = Server::start(move |seen| match seen.path.contains("/blobs/") {
        true => Answer::redirect(&format!("http://{target}{}", seen.path)),
        false => content.answer(seen),
    });
    let error = pulled(&place().store, &client(&server, password()), &server.reference(":1")).unwrap_err();
    assert!(shown(&error).contains("not allowed"), "{}", shown(&error));
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_mirror_gets_its_own_credential_and_not_the_registry_s() {
    let content = image();
    let mirror = Server::start(|_| Answer::status(401).header("www-authenticate", "Basic realm=\"x\""));
    let server = Server::start(move |seen| content.answer(seen));
    let mirrors = vec![kit_oci::registry::Mirror::new(&server.host(), &mirror.host()).unwrap()];
    let credentials = Credentials::none().with(&server.host(), password());
    let client = Client::new(Options { mirrors, credentials, ..hasty() });
    pulled(&place().store, &client, &server.reference(":1")).unwrap();
    assert!(!mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_wrong_password_is_an_error_that_does_not_show_it() {
    // The servers say back to us what we sent, as some do.
    let echo = |seen: &Seen| {
        let sent = seen.header("authorization").unwrap_or_default();
        Answer::json(
            &serde_json::json!({"errors": [{"message": format!("denied: {sent} hunter2 secret-token")}]}),
        )
        .with_status(401)
    };
    let basic = Server::start(move |seen| echo(seen).header("www-authenticate", "Basic realm=\"x\""));
    let at_the_realm = with_tokens(echo, |_| false);
    let at_the_registry = {
        let host = Arc::new(Mutex::new(String::new()));
        let named = host.clone();
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/token" => token("secret-token"),
            _ => {
                let realm = format!("Bearer realm=\"http://{}/token?key=hunter2\"", named.lock().unwrap());
                echo(seen).header("www-authenticate", &realm)
            }
        });
        *host.lock().unwrap() = server.host();
        server
    };
    for server in [basic, at_the_realm, at_the_registry] {
        let client = client(&server, password());
        let error = pulled(&place().store, &client, &server.reference(":1")).unwrap_err();
        let text = format!("{} {error:?} {client:?}", shown(&error));
        assert!(text.contains("not allowed with the credential that is known"), "{text}");
        for secret in ["hunter2", "dXNlcjpodW50ZXIy", "secret-token"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(error.hint().is_some());
    }
}

#[test]
fn an_unusable_answer_of_the_realm_is_an_error_that_does_not_show_it() {
    for answer in ["{\"token\": 5}", "{\"token\": \"\"}", "hunter2", "{\"token\": \"hunter2\\r\\nX: y\"}"] {
        let server = with_tokens(move |_| Answer::bytes(answer.as_bytes().to_vec()), |_| false);
        let error = pulled(&place().store, &Client::new(hasty()), &server.reference(":1")).unwrap_err();
        let text = format!("{} {error:?}", shown(&error));
        assert!(text.contains("no usable token in the answer") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_login_in_an_unknown_way_is_an_error() {
    let server = Server::start(|_| Answer::status(401).header("www-authenticate", "Negotiate"));
    let error = Client::new(hasty()).ping(&server.host()).unwrap_err();
    assert!(shown(&error).contains("wants a login in an unknown way"), "{}", shown(&error));
}

#[test]
fn a_realm_at_a_plain_http_host_is_not_asked() {
    let challenge = "Bearer realm=\"http://token.example/t\"";
    let server = Server::start(move |_| Answer::status(401).header("www-authenticate", challenge));
    let error = client(&server, password()).ping(&server.host()).unwrap_err();
    assert!(
        shown(&error).contains("plain http is for this machine and listed hosts only"),
        "{}",
        shown(&error)
    );
}
