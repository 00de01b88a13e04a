//! Imports from http, against servers that behave and servers that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Home, digest_of, go_on, no_parts};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vws_domain::{ErrorKind, Result};
use vws_library::{Blob, Limits};

/// A server that answers each request by its path.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                if path == "/quit" {
                    return;
                }
                log.lock().unwrap().push(head);
                answer(&path, &mut stream);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { address, requests, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = TcpStream::connect(self.address).and_then(|mut stream| stream.write_all(b"GET /quit HTTP/1.1\r\n\r\n"));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An answer with a length.
fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    // The client may be gone by then: that is its affair.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

const BODY: &[u8] = b"the bytes of an image";

fn body() -> Vec<u8> {
    BODY.repeat(100_000)
}

fn import(home: &Home, url: &str) -> Result<Blob> {
    home.library().import_url(url, &digest_of(&body()), &mut go_on).map(|imported| Blob::clone(&imported))
}

#[test]
fn a_download_is_kept_and_counted() {
    let home = Home::new();
    let server = Server::new(|_, stream| answer(stream, "200 OK", "", &body()));
    let mut seen = Vec::new();
    let blob = home
        .library()
        .import_url(&server.url("/image"), &digest_of(&body()), &mut |done, total| {
            seen.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(blob.size_bytes, body().len() as u64);
    assert!(seen.is_sorted() && seen.last() == Some(&(blob.size_bytes, blob.size_bytes)), "{:?}", seen.last());
    let mut read = Vec::new();
    home.library().blob(&blob.digest).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == body());
    // Again: the same blob; and the bytes are read again, because to know a digest is not to have the bytes.
    assert_eq!(import(&home, &server.url("/image")).unwrap(), *blob);
    assert_eq!(server.requests.lock().unwrap().len(), 2);
    no_parts(&home);
}

#[test]
fn a_body_without_a_length_is_read_to_its_end() {
    let home = Home::new();
    let chunked = Server::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in body().chunks(100_000) {
            write!(stream, "{:x}\r\n", chunk.len()).unwrap();
            stream.write_all(chunk).and_then(|()| stream.write_all(b"\r\n")).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    import(&home, &chunked.url("/")).unwrap();
    let closing = Server::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").and_then(|()| stream.write_all(&body())).unwrap();
    });
    import(&home, &closing.url("/")).unwrap();
}

#[test]
fn what_is_not_what_was_meant_is_refused() {
    let home = Home::new();
    let server = Server::new(|path, stream| match path {
        "/other" => answer(stream, "200 OK", "", b"other bytes"),
        "/cut" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body().len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body()[..50_000]));
        }
        "/cut-chunk" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort");
        }
        "/part" => answer(stream, "206 Partial Content", "", &body()),
        "/empty" => answer(stream, "200 OK", "", b""),
        "/broken" => {
            let _ = stream.write_all(b"what?\r\n\r\n");
        }
        "/forbidden" => answer(stream, "403 Forbidden", "", &body()),
        "/failing" => answer(stream, "500 Internal Server Error", "", &body()),
        _ => answer(stream, "404 Not Found", "", &body()),
    });
    for (path, kind, fact) in [
        ("/other", ErrorKind::Damaged, "sha256"),
        ("/cut", ErrorKind::Damaged, "ended before it was complete"),
        ("/cut-chunk", ErrorKind::Damaged, "ended before it was complete"),
        ("/part", ErrorKind::InvalidArgument, "206"),
        ("/empty", ErrorKind::Damaged, "sha256"),
        ("/broken", ErrorKind::InvalidArgument, "failed"),
        ("/forbidden", ErrorKind::InvalidArgument, "403"),
        ("/failing", ErrorKind::InvalidArgument, "500"),
        ("/missing", ErrorKind::NotFound, "404"),
    ] {
        let error = import(&home, &server.url(path)).unwrap_err();
        assert_eq!(error.kind, kind, "{path}: {error}");
        assert!(error.fact.contains(fact) && error.object.contains(path), "{path}: {error}");
        no_parts(&home);
    }
    assert!(home.library().list_blobs().unwrap().is_empty());
}

#[test]
fn redirects_are_followed_to_http_only_and_not_for_ever() {
    let home = Home::new();
    let server = Server::new(|path, stream| match path {
        "/image" => answer(stream, "200 OK", "", &body()),
        "/here" => answer(stream, "302 Found", "Location: image\r\n", b"moved"),
        "/twice" => answer(stream, "301 Moved Permanently", "Location: /here\r\n", b""),
        "/file" => answer(stream, "302 Found", "Location: file:///etc/passwd\r\n", b""),
        "/nowhere" => answer(stream, "302 Found", "", b""),
        _ => answer(stream, "307 Temporary Redirect", "Location: /loop\r\n", b""),
    });
    import(&home, &server.url("/twice")).unwrap();
    let error = import(&home, &server.url("/file")).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidArgument, "scheme"));
    assert!(error.fact.contains("file:///etc/passwd"), "{error}");
    let error = import(&home, &server.url("/loop")).unwrap_err();
    assert!(error.fact.contains("more than 5 times"), "{error}");
    let error = import(&home, &server.url("/nowhere")).unwrap_err();
    assert!(error.fact.contains("302"), "{error}");
    for url in ["file:///etc/passwd", "ftp://host/x", "/etc/passwd", "", "http://", "http:///x"] {
        assert_eq!(import(&home, url).unwrap_err().kind, ErrorKind::InvalidArgument, "{url}");
    }
    no_parts(&home);
}

#[test]
fn a_server_that_is_not_there_or_stalls_is_named_in_time() {
    let home = Home::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = import(&home, &format!("http://{closed}/")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");

    let quick = Limits { stall: Duration::from_millis(200), headers: Duration::from_millis(400), ..Limits::default() };
    let library = home.library_with(quick);
    // Answers the client's hanging up, so that the server ends with the test.
    let wait = |stream: &mut TcpStream| drop(stream.read(&mut [0; 1]));
    let silent = Server::new(move |_, stream| wait(stream));
    let stalling = Server::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.").unwrap();
        wait(stream);
    });
    for server in [silent, stalling] {
        let error = library.import_url(&server.url("/"), &digest_of(&body()), &mut go_on).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    }
    no_parts(&home);
}

#[test]
fn limits_and_cancelling_hold_for_downloads() {
    let home = Home::new();
    let server = Server::new(|path, stream| match path {
        "/announced" => answer(stream, "200 OK", "", &body()),
        _ => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").and_then(|()| stream.write_all(&body()));
        }
    });
    let small = home.library_with(Limits { blob_bytes: 1000, ..Limits::default() });
    for path in ["/announced", "/unannounced"] {
        let error = small.import_url(&server.url(path), &digest_of(&body()), &mut go_on).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{path}: {error}");
        assert!(error.fact.contains("1000"), "{path}: {error}");
    }
    let error = home
        .library()
        .import_url(&server.url("/announced"), &digest_of(&body()), &mut |done, _| {
            if done > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    no_parts(&home);
}

#[test]
fn credentials_are_sent_to_the_server_and_to_no_message() {
    let home = Home::new();
    let server = Server::new(|path, stream| match path {
        "/image?token=hunter2" => answer(stream, "200 OK", "", &body()),
        _ => answer(stream, "404 Not Found", "", b""),
    });
    let with_user = |path: &str| format!("http://ann:hunter2@{}{path}", server.address);
    import(&home, &with_user("/image?token=hunter2")).unwrap();
    let head = server.requests.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.contains("authorization: basic yw5uomh1bnrlcji="), "{head}");
    let mut errors = vec![import(&home, &with_user("/missing?token=hunter2")).unwrap_err()];
    errors.push(import(&home, "http://ann:hunter2@no-such-host.invalid/?hunter2").unwrap_err());
    errors.push(import(&home, "gopher://ann:hunter2@host/?hunter2").unwrap_err());
    errors.push(import(&home, "http://ann:hunter2@ho st/?hunter2").unwrap_err());
    for error in errors {
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
