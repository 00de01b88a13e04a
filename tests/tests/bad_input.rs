//! What is wrong is refused with a name, an object, a fact and a remedy, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use vws_tests::{Plan, Site};

/// Arguments, the error's name, its code, and words that its message must have.
type Case<'a> = (&'a [&'a str], &'a str, &'a str, &'a [&'a str]);

fn check(site: &Site, cases: &[Case<'_>]) {
    for (arguments, kind, code, words) in cases {
        let said = site.vws(arguments);
        assert_ne!(said.code, 0, "{arguments:?}: {said:?}");
        let (name, found, message) = said.error();
        assert_eq!((name.as_str(), found.as_str()), (*kind, *code), "{arguments:?}: {message}");
        for word in *words {
            assert!(message.contains(word), "{arguments:?}: no `{word}` in: {message}");
        }
    }
}

#[test]
fn impossible_requests_name_object_fact_and_remedy() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let long = "x".repeat(300);
    let launch = |name: &'static str| -> [&'static str; 4] { ["launch", "tiny", "--name", name] };
    check(
        &site,
        &[
            (&launch("<b>"), "InvalidArgument", "", &["`<b>`", "host name label"]),
            (&launch("it's"), "InvalidArgument", "", &["host name label"]),
            (&launch("a\nb"), "InvalidArgument", "", &["a\\nb"]),
            (&["launch", "tiny", "--name", &long], "InvalidArgument", "", &["1 to 63 characters"]),
            (&["launch", "nosuch", "--name", "a"], "NotFound", "", &["image `nosuch`", "vws image"]),
            (&["launch", "tiny", "--name", "a", "--host", "nosuch"], "NotFound", "", &["host `nosuch`"]),
            (&["launch", "tiny", "--name", "a", "--memory", "60T"], "QuotaExceeded", "memory-mib-per-user", &["quota.lua"]),
            (&["launch", "tiny", "--name", "a", "--memory", "200G"], "NoHost", "too-large-for-every-host", &["ask for less"]),
            (&["info", "nosuch"], "NotFound", "", &["nosuch"]),
        ],
    );
    site.assert_empty(&["h1"]);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::start(&Plan::default());
    let second = site.daemon_command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("is in use by process") && said.contains("--state"), "{said}");
    assert_eq!(site.ok(&["list"]).as_array().unwrap().len(), 0);
}

#[test]
fn an_image_is_what_it_is_said_to_be() {
    let site = Site::start(&Plan::default());
    let path = |name: &str, bytes: &[u8]| {
        let path = site.dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = path("text.qcow2", b"this is no image");
    let odd = path("odd.raw", &[7; 1000]);
    let mut header = vec![0_u8; 104];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    header[15] = 104;
    header[23] = 16;
    header[103] = 104;
    let backed = path("backed.qcow2", &header);
    let zero = "0".repeat(64);
    let good = path("good.raw", &[0; 4096]);
    check(
        &site,
        &[
            (&["image", "import", "a", &text, "--format", "qcow2"], "InvalidArgument", "not-an-image", &["qcow2"]),
            (&["image", "import", "a", &odd, "--format", "raw"], "InvalidArgument", "not-an-image", &["512"]),
            (&["image", "import", "a", &backed, "--format", "qcow2"], "InvalidArgument", "backing-file", &["backing"]),
            (&["image", "import", "a", &good, "--format", "raw", "--digest", &zero], "Damaged", "digest", &[&zero]),
        ],
    );
    assert_eq!(site.ok(&["image", "list"]).as_array().unwrap().len(), 0, "a refused image stays in the catalogue");
    // Bytes that came in before they were found to be no image are not left in the library.
    let library = || std::fs::read_dir(site.dir().join("state/library/blobs/sha256")).unwrap().count();
    vws_tests::until("the refused bytes are gone", || (library() == 0).then_some(()));
    assert_eq!(site.findings(), Vec::<String>::new());
}
