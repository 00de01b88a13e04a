//! A Rust backend seen through its C descriptor: as the daemon, or any C program, uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![expect(unsafe_code, reason = "this is the C side of the interface")]

use serde_json::{Value, json};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use vws_plugin_api::abi::{HostServices, MAX_FDS, Plugin, ReplyBuffer};
use vws_plugin_api::doc::{
    Concurrency, Description, Failure, HostFacts, HostListing, HostProbe, HostRef, PluginEvent, WorkspaceRef, codes,
};
use vws_plugin_api::sdk::{Backend, Call, Emitter, Outcome};

struct Odd {
    emitter: Emitter,
}

impl Backend for Odd {
    fn description() -> Description {
        Description {
            name: "odd".into(),
            version: "1.2".into(),
            licence: String::new(),
            documents: vec![1],
            concurrency: Concurrency::Parallel,
            methods: Vec::new(),
            settings_schema: Value::Null,
        }
    }

    fn open(config: Value, emitter: Emitter) -> Outcome<Self> {
        match config["how"].as_str() {
            Some("panic") => panic!("no config for me"),
            Some("fail") => Err(Failure::new(codes::INVALID, "wrong section")),
            _ => Ok(Self { emitter }),
        }
    }

    fn host_probe(&self, _args: HostProbe, call: &mut Call) -> Outcome<HostFacts> {
        self.emitter.emit(&PluginEvent::Log { level: "info".into(), message: "probing".into() });
        while !call.is_cancelled() {
            std::thread::yield_now();
        }
        call.check()?;
        Ok(HostFacts::default())
    }

    fn host_list(&self, _args: HostRef, _call: &mut Call) -> Outcome<HostListing> {
        panic!("list of {}", 3)
    }

    fn console(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<()> {
        let count = args.workspace.parse().unwrap_or(1);
        let mut text = String::new();
        File::from(call.fds.remove(0)).read_to_string(&mut text).unwrap();
        for _ in 0..count {
            let (end, mut other) = std::io::pipe().unwrap();
            other.write_all(text.as_bytes()).unwrap();
            call.reply_fds.push(end.into());
        }
        Ok(())
    }
}

vws_plugin_api::export_backend!(Odd);

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" fn emit(_ctx: *mut c_void, document: *const u8, len: usize) {
    // SAFETY: the plugin's bytes, valid for this call.
    let bytes = unsafe { std::slice::from_raw_parts(document, len) };
    SAID.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
}

fn plugin() -> Plugin {
    // SAFETY: static storage.
    unsafe { *vws_plugin_entry() }
}

static SERVICES: Services =
    Services(HostServices { struct_size: size_of::<HostServices>() as u64, ctx: std::ptr::null_mut(), emit: Some(emit) });
struct Services(HostServices);
// SAFETY: it is never written.
unsafe impl Sync for Services {}

#[derive(Clone, Copy)]
struct This(*mut c_void);
// SAFETY: the interface allows calls from any thread.
unsafe impl Send for This {}
// SAFETY: as above.
unsafe impl Sync for This {}

fn open(config: &str) -> (This, Value) {
    let mut this = std::ptr::null_mut();
    let mut reply = ReplyBuffer::empty();
    // SAFETY: all pointers are valid.
    let code =
        unsafe { plugin().open.unwrap()(&raw const SERVICES.0, config.as_ptr(), config.len(), &raw mut this, &raw mut reply) };
    assert_eq!(code, 0);
    (This(this), take(&mut reply).0)
}

fn take(reply: &mut ReplyBuffer) -> (Value, Vec<OwnedFd>) {
    // SAFETY: filled by the plugin; descriptors are duplicated before the release.
    let (value, fds) = unsafe {
        let bytes = std::slice::from_raw_parts(reply.data, reply.len);
        let fds =
            reply.fds[..reply.nfds as usize].iter().map(|fd| BorrowedFd::borrow_raw(*fd).try_clone_to_owned().unwrap()).collect();
        (serde_json::from_slice(bytes).unwrap(), fds)
    };
    let numbers = reply.fds;
    let count = reply.nfds as usize;
    // SAFETY: released once.
    unsafe { plugin().release.unwrap()(&raw mut *reply) };
    assert!(reply.data.is_null() && reply.owner.is_null() && reply.nfds == 0);
    // SAFETY: releasing again is harmless, as nothing is left.
    unsafe { plugin().release.unwrap()(&raw mut *reply) };
    assert_eq!(numbers[count..].iter().filter(|fd| **fd != -1).count(), 0);
    (value, fds)
}

fn call(this: This, request: &Value, fds: &[i32]) -> (Value, Vec<OwnedFd>) {
    let request = request.to_string();
    let mut reply = ReplyBuffer::empty();
    let count = u32::try_from(fds.len()).unwrap();
    // SAFETY: all pointers are valid.
    let code = unsafe { plugin().call.unwrap()(this.0, request.as_ptr(), request.len(), fds.as_ptr(), count, &raw mut reply) };
    assert_eq!(code, 0);
    take(&mut reply)
}

fn request(method: &str, args: &Value) -> Value {
    json!({ "v": 1, "id": format!("id of {method}"), "method": method, "deadline_ms": 60_000, "args": args, "future": true })
}

#[test]
fn the_descriptor_says_what_the_backend_is() {
    let plugin = plugin();
    assert_eq!((plugin.struct_size, plugin.abi), (72, 1));
    // SAFETY: zero-terminated, static.
    let texts = unsafe { [CStr::from_ptr(plugin.name), CStr::from_ptr(plugin.version)] };
    assert_eq!(texts, [c"odd", c"1.2"]);
    assert_eq!(vws_plugin_entry(), vws_plugin_entry());
}

#[test]
fn opening_can_fail_and_panic_without_harm() {
    let (this, reply) = open(r#"{"how":"fail"}"#);
    assert!(this.0.is_null());
    assert_eq!(reply["err"]["message"], "wrong section");
    let (this, reply) = open(r#"{"how":"panic"}"#);
    assert!(this.0.is_null());
    assert_eq!((&reply["err"]["code"], &reply["err"]["detail"]), (&json!("internal"), &json!("no config for me")));
    let (this, reply) = open("{");
    assert!(this.0.is_null());
    assert_eq!(reply["err"]["code"], "invalid");
    let mut small = ReplyBuffer::empty();
    small.struct_size = 8;
    let mut this = std::ptr::null_mut();
    // SAFETY: all pointers are valid.
    let code = unsafe { plugin().open.unwrap()(&raw const SERVICES.0, std::ptr::null(), 0, &raw mut this, &raw mut small) };
    assert_ne!(code, 0, "a reply buffer that is too small is not written to");
    assert!(small.data.is_null());
}

#[test]
fn calls_fail_with_documents() {
    let (this, reply) = open("");
    assert_eq!(reply, json!({ "v": 1, "ok": {} }));
    let (reply, _) = call(this, &request("host.list", &json!({ "host": "h" })), &[]);
    assert_eq!((&reply["err"]["code"], &reply["err"]["detail"]), (&json!("internal"), &json!("list of 3")));
    let (reply, _) = call(this, &request("describe", &Value::Null), &[]);
    assert_eq!(reply["ok"]["name"], "odd");
    let (reply, _) = call(this, &request("workspace.teleport", &json!({})), &[]);
    assert_eq!(reply["err"]["code"], "unsupported");
    let (reply, _) = call(this, &request("host.close", &json!({ "host": "h" })), &[]);
    assert_eq!(reply["err"]["code"], "unsupported", "a method that the backend does not implement");
    let (reply, _) = call(this, &request("host.list", &json!({ "hosts": [] })), &[]);
    assert_eq!(reply["err"]["code"], "invalid");
    let (reply, _) = call(this, &json!({ "v": 2, "id": "", "method": "describe", "deadline_ms": 0 }), &[]);
    assert_eq!(reply["err"]["code"], "unsupported");
    let (reply, _) = call(this, &json!("what"), &[]);
    assert_eq!(reply["err"]["code"], "invalid");
    let (reply, _) = call(this, &request("describe", &Value::Null), &[0; MAX_FDS + 1]);
    assert_eq!(reply["err"]["code"], "invalid");
    let (reply, _) = call(this, &request("describe", &Value::Null), &[-1]);
    assert_eq!(reply["err"]["code"], "invalid");
    // SAFETY: no call is running.
    unsafe { plugin().close.unwrap()(this.0) };
}

#[test]
fn a_call_is_cancelled_by_its_id_from_another_thread() {
    let (this, _) = open("{}");
    std::thread::scope(|scope| {
        let running = scope.spawn(move || call(this, &request("host.probe", &json!({ "host": "h" })), &[]).0);
        while !SAID.lock().unwrap().iter().any(|line| line.contains("probing")) {
            std::thread::yield_now();
        }
        let cancel = |id: &str| {
            // SAFETY: the instance is open.
            unsafe { plugin().cancel.unwrap()(this.0, id.as_ptr(), id.len()) }
        };
        cancel("another id");
        assert!(!running.is_finished());
        cancel("id of host.probe");
        assert_eq!(running.join().unwrap()["err"]["code"], "cancelled");
    });
    // SAFETY: no call is running.
    unsafe { plugin().close.unwrap()(this.0) };
}

#[test]
fn descriptors_stay_with_whoever_made_them() {
    let (this, _) = open("{}");
    let console = |workspace: &str| {
        let (end, mut other) = std::io::pipe().unwrap();
        other.write_all(b"lent").unwrap();
        drop(other);
        let lent = OwnedFd::from(end);
        let (reply, fds) =
            call(this, &request("workspace.console", &json!({ "host": "h", "workspace": workspace })), &[lent.as_raw_fd()]);
        // SAFETY: the number is ours: the plugin closed its copy, not this one.
        let still_open = unsafe { BorrowedFd::borrow_raw(lent.as_raw_fd()) }.try_clone_to_owned();
        assert!(still_open.is_ok());
        (reply, fds)
    };
    let (reply, mut fds) = console("2");
    assert_eq!(reply, json!({ "v": 1, "ok": null }));
    assert_eq!(fds.len(), 2);
    let mut text = String::new();
    File::from(fds.remove(1)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "lent");
    let (reply, fds) = console("17");
    assert_eq!(reply["err"]["code"], "internal", "more than the limit");
    assert!(fds.is_empty());
    // SAFETY: no call is running.
    unsafe { plugin().close.unwrap()(this.0) };
}
