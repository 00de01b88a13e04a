//! The C ABI's mirror, and the glue that makes a [`Backend`] into a C descriptor.
//!
//! Owns: the layout of `include/vws_plugin.h` in Rust, `export_backend!`, and all unsafe code of the SDK.
//! Must not know: what the documents mean beyond the envelope; how the daemon loads a plugin.
//!
//! Rules that the glue keeps for a Rust backend: a panic becomes an `internal` failure; descriptors of a call are duplicated
//! before the backend sees them; bytes and descriptors of a reply live until `release`; each call in flight has its own
//! cancel flag, found by id.

use crate::doc::{self, Failure, Request, Retry, codes};
use crate::sdk::{Backend, Call, Emitter, Outcome, dispatch};
use serde_json::Value;
use std::any::Any;
use std::ffi::{CString, c_char, c_void};
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The ABI number of this header.
pub const ABI: u32 = 1;
/// Descriptors of one call or one reply, at most.
pub const MAX_FDS: usize = 16;
/// The symbol that a plugin exports.
pub const ENTRY_SYMBOL: &str = "vws_plugin_entry";

/// `struct vws_host`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostServices {
    /// Size of the structure as its maker knows it.
    pub struct_size: u64,
    /// Passed back with every service.
    pub ctx: *mut c_void,
    /// Sends an event.
    pub emit: Option<unsafe extern "C" fn(ctx: *mut c_void, document: *const u8, len: usize)>,
}

/// `struct vws_reply`.
#[repr(C)]
pub struct ReplyBuffer {
    /// Size of the structure as the daemon knows it.
    pub struct_size: u64,
    /// The document.
    pub data: *const u8,
    /// Its length.
    pub len: usize,
    /// The plugin's own.
    pub owner: *mut c_void,
    /// Descriptors in `fds`.
    pub nfds: u32,
    /// The descriptors.
    pub fds: [i32; MAX_FDS],
}

impl ReplyBuffer {
    /// An empty buffer, as the daemon hands it to the plugin.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            struct_size: size_of::<Self>() as u64,
            data: std::ptr::null(),
            len: 0,
            owner: std::ptr::null_mut(),
            nfds: 0,
            fds: [-1; MAX_FDS],
        }
    }
}

/// `open` of the descriptor.
pub type OpenFn = unsafe extern "C" fn(*const HostServices, *const u8, usize, *mut *mut c_void, *mut ReplyBuffer) -> i32;
/// `call` of the descriptor.
pub type CallFn = unsafe extern "C" fn(*mut c_void, *const u8, usize, *const i32, u32, *mut ReplyBuffer) -> i32;
/// `cancel` of the descriptor.
pub type CancelFn = unsafe extern "C" fn(*mut c_void, *const u8, usize);
/// `release` of the descriptor.
pub type ReleaseFn = unsafe extern "C" fn(*mut ReplyBuffer);
/// `close` of the descriptor.
pub type CloseFn = unsafe extern "C" fn(*mut c_void);
/// The entry symbol's type.
pub type EntryFn = unsafe extern "C" fn() -> *const Plugin;

/// `struct vws_plugin`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plugin {
    /// Size of the structure as the plugin knows it.
    pub struct_size: u64,
    /// [`ABI`] as the plugin knows it.
    pub abi: u32,
    /// 0.
    pub reserved: u32,
    /// Name, zero-terminated UTF-8.
    pub name: *const c_char,
    /// Version, zero-terminated UTF-8.
    pub version: *const c_char,
    /// Makes an instance.
    pub open: Option<OpenFn>,
    /// One request.
    pub call: Option<CallFn>,
    /// A call should end soon.
    pub cancel: Option<CancelFn>,
    /// Frees a reply.
    pub release: Option<ReleaseFn>,
    /// Ends the instance.
    pub close: Option<CloseFn>,
}

/// Size of the descriptor in ABI 1: no plugin may offer less.
pub const PLUGIN_SIZE_MIN: u64 = size_of::<Plugin>() as u64;

// The layout is frozen. A failure here means that binaries in the field would break.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<HostServices>() == 24);
    assert!(offset_of!(HostServices, ctx) == 8);
    assert!(offset_of!(HostServices, emit) == 16);
    assert!(size_of::<ReplyBuffer>() == 104);
    assert!(offset_of!(ReplyBuffer, data) == 8);
    assert!(offset_of!(ReplyBuffer, len) == 16);
    assert!(offset_of!(ReplyBuffer, owner) == 24);
    assert!(offset_of!(ReplyBuffer, nfds) == 32);
    assert!(offset_of!(ReplyBuffer, fds) == 36);
    assert!(size_of::<Plugin>() == 72);
    assert!(offset_of!(Plugin, abi) == 8);
    assert!(offset_of!(Plugin, reserved) == 12);
    assert!(offset_of!(Plugin, name) == 16);
    assert!(offset_of!(Plugin, version) == 24);
    assert!(offset_of!(Plugin, open) == 32);
    assert!(offset_of!(Plugin, call) == 40);
    assert!(offset_of!(Plugin, cancel) == 48);
    assert!(offset_of!(Plugin, release) == 56);
    assert!(offset_of!(Plugin, close) == 64);
};

/// Exports a [`Backend`] as a plugin: `vws_plugin_api::export_backend!(MyBackend);`, once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_backend {
    ($backend:ty) => {
        /// The entry symbol of the plugin interface.
        #[allow(unsafe_code, reason = "the entry symbol has to have its plain name")]
        #[unsafe(no_mangle)]
        pub extern "C" fn vws_plugin_entry() -> *const $crate::abi::Plugin {
            static DESCRIPTOR: ::std::sync::OnceLock<::std::option::Option<$crate::abi::Descriptor>> =
                ::std::sync::OnceLock::new();
            DESCRIPTOR
                .get_or_init($crate::abi::Descriptor::of::<$backend>)
                .as_ref()
                .map_or(::std::ptr::null(), $crate::abi::Descriptor::as_ptr)
        }
    };
}

/// A descriptor in static storage; made by [`export_backend!`].
pub struct Descriptor(Plugin);

// SAFETY: the descriptor is never written after it was made, and its pointers are to leaked, immutable strings.
#[expect(unsafe_code, reason = "a table of pointers that is shared and never written")]
unsafe impl Send for Descriptor {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a table of pointers that is shared and never written")]
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// The descriptor of `B`; `None` if its description panics or holds a zero byte. Its two strings are leaked, once.
    #[must_use]
    pub fn of<B: Backend>() -> Option<Self> {
        let description = catch_unwind(B::description).ok()?;
        let name = CString::new(description.name).ok()?;
        let version = CString::new(description.version).ok()?;
        Some(Self(Plugin {
            struct_size: size_of::<Plugin>() as u64,
            abi: ABI,
            reserved: 0,
            name: name.into_raw(),
            version: version.into_raw(),
            open: Some(open::<B>),
            call: Some(call::<B>),
            cancel: Some(cancel::<B>),
            release: Some(release),
            close: Some(close::<B>),
        }))
    }

    /// As the entry symbol returns it.
    #[must_use]
    pub fn as_ptr(&self) -> *const Plugin {
        &raw const self.0
    }
}

/// What `self` points to.
struct Instance<B> {
    backend: B,
    emitter: Emitter,
    /// One flag for each call in flight. Few at a time, so a list is the fastest map.
    flags: Mutex<Vec<(String, Arc<AtomicBool>)>>,
}

/// What `owner` of a reply points to.
struct Owner {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// The daemon's `emit`, copied out of its structure.
struct EmitTarget {
    ctx: *mut c_void,
    emit: unsafe extern "C" fn(*mut c_void, *const u8, usize),
}
// SAFETY: the ABI says that `emit` may be called with `ctx` from any thread until `close` returns.
#[expect(unsafe_code, reason = "the ABI allows `emit` from any thread")]
unsafe impl Send for EmitTarget {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the ABI allows `emit` from any thread")]
unsafe impl Sync for EmitTarget {}

impl EmitTarget {
    #[expect(unsafe_code, reason = "calls the daemon's function")]
    fn send(&self, document: &[u8]) {
        // SAFETY: `emit` and `ctx` came together from the daemon; the bytes are valid for the length given and are copied by it.
        unsafe { (self.emit)(self.ctx, document.as_ptr(), document.len()) }
    }
}

/// The bytes at `data`; empty for a null pointer.
///
/// # Safety
/// `data` is null or valid for `len` bytes for as long as the result is used.
#[expect(unsafe_code, reason = "bytes that the daemon lends for one call")]
unsafe fn lent<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// Says what a panic said.
fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    Failure::new(codes::INTERNAL, "the backend panicked").remedy("report it to the backend's maker").detail(said)
}

/// The reply document of an outcome.
fn document(outcome: Outcome<Value>) -> Vec<u8> {
    let reply = match outcome {
        Ok(value) => doc::Reply { v: doc::VERSION, ok: Some(value), err: None },
        Err(failure) => doc::Reply { v: doc::VERSION, ok: None, err: Some(failure) },
    };
    // A `Value` and a `Failure` have string keys only and always serialize; were that to change, the daemon gets an empty
    // document, which it reports as a protocol error.
    serde_json::to_vec(&reply).unwrap_or_default()
}

/// Fills a reply.
///
/// # Safety
/// `reply` is the daemon's buffer, writable for this call.
#[expect(unsafe_code, reason = "fills the daemon's buffer")]
unsafe fn fill(reply: *mut ReplyBuffer, outcome: Outcome<Value>, fds: Vec<OwnedFd>) -> i32 {
    let (outcome, fds) = if fds.len() > MAX_FDS {
        let failure =
            Failure::new(codes::INTERNAL, format!("the backend answered with {} descriptors; the limit is {MAX_FDS}", fds.len()));
        (Err(failure), Vec::new())
    } else {
        (outcome, fds)
    };
    let owner = Box::new(Owner { bytes: document(outcome), fds });
    // SAFETY: the daemon hands a writable buffer of at least the size of ABI 1 (checked by the caller).
    let reply = unsafe { &mut *reply };
    reply.data = owner.bytes.as_ptr();
    reply.len = owner.bytes.len();
    for (slot, fd) in reply.fds.iter_mut().zip(&owner.fds) {
        *slot = fd.as_raw_fd();
    }
    reply.nfds = u32::try_from(owner.fds.len()).unwrap_or(0);
    reply.owner = Box::into_raw(owner).cast();
    0
}

/// Whether the daemon's reply buffer is there and large enough to be filled.
///
/// # Safety
/// `reply` is null or points to a structure that begins with its size.
#[expect(unsafe_code, reason = "reads the size of the daemon's buffer")]
unsafe fn reply_usable(reply: *const ReplyBuffer) -> bool {
    // SAFETY: the caller's promise.
    !reply.is_null() && unsafe { (*reply).struct_size } >= size_of::<ReplyBuffer>() as u64
}

#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn open<B: Backend>(
    services: *const HostServices,
    config: *const u8,
    len: usize,
    out: *mut *mut c_void,
    reply: *mut ReplyBuffer,
) -> i32 {
    // SAFETY: the ABI's promise about `reply`.
    if !unsafe { reply_usable(reply) } || services.is_null() || out.is_null() {
        return -1;
    }
    // SAFETY: `services` is valid until `close`, and ABI 1 is its smallest size.
    let services = unsafe { *services };
    // SAFETY: `config` is valid for `len` bytes during this call.
    let config = unsafe { lent(config, len) };
    let made = catch_unwind(AssertUnwindSafe(|| {
        let emitter = match services.emit {
            None => Emitter::new(|_| {}),
            Some(emit) => {
                let target = EmitTarget { ctx: services.ctx, emit };
                Emitter::new(move |event| {
                    if let Ok(bytes) = serde_json::to_vec(event) {
                        target.send(&bytes);
                    }
                })
            }
        };
        let config = if config.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(config)
                .map_err(|error| Failure::new(codes::INVALID, format!("the plugin's configuration is not JSON: {error}")))?
        };
        let backend = B::open(config, emitter.clone())?;
        Ok(Box::new(Instance { backend, emitter, flags: Mutex::new(Vec::new()) }))
    }));
    let outcome = match made {
        Ok(Ok(instance)) => {
            // SAFETY: `out` is the daemon's and writable.
            unsafe { *out = Box::into_raw(instance).cast() };
            Ok(Value::Object(serde_json::Map::new()))
        }
        Ok(Err(failure)) => Err(failure),
        Err(panic) => Err(panic_failure(&*panic)),
    };
    // SAFETY: checked above.
    unsafe { fill(reply, outcome, Vec::new()) }
}

#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn call<B: Backend>(
    this: *mut c_void,
    request: *const u8,
    len: usize,
    fds: *const i32,
    nfds: u32,
    reply: *mut ReplyBuffer,
) -> i32 {
    // SAFETY: the ABI's promise about `reply`.
    if !unsafe { reply_usable(reply) } || this.is_null() {
        return -1;
    }
    // SAFETY: `this` came from `open` and lives until `close`, which is not called while a call runs.
    let instance = unsafe { &*this.cast::<Instance<B>>() };
    // SAFETY: `request` is valid for `len` bytes during this call.
    let request = unsafe { lent(request, len) };
    let mut reply_fds = Vec::new();
    let outcome = if nfds as usize > MAX_FDS || (nfds > 0 && fds.is_null()) {
        Err(Failure::new(codes::INVALID, format!("a call with {nfds} descriptors; the limit is {MAX_FDS}")))
    } else {
        let numbers = if nfds == 0 {
            &[][..]
        } else {
            // SAFETY: the daemon hands `nfds` numbers, valid during this call.
            unsafe { std::slice::from_raw_parts(fds, nfds as usize) }
        };
        // SAFETY: the descriptors are open during this call.
        match unsafe { duplicates(numbers) } {
            Ok(fds) => {
                let result = catch_unwind(AssertUnwindSafe(|| answer(instance, request, fds)));
                match result {
                    Ok((outcome, fds)) => {
                        reply_fds = fds;
                        outcome
                    }
                    Err(panic) => Err(panic_failure(&*panic)),
                }
            }
            Err(failure) => Err(failure),
        }
    };
    // SAFETY: checked above.
    unsafe { fill(reply, outcome, reply_fds) }
}

/// Owned copies of the daemon's descriptors, closed on exec.
///
/// # Safety
/// Every number is an open descriptor.
#[expect(unsafe_code, reason = "descriptors arrive as numbers")]
unsafe fn duplicates(numbers: &[i32]) -> Outcome<Vec<OwnedFd>> {
    let copy = |number: &i32| {
        if *number < 0 {
            return Err(Failure::new(codes::INVALID, "a descriptor of the call is negative"));
        }
        // SAFETY: the caller's promise.
        unsafe { BorrowedFd::borrow_raw(*number) }.try_clone_to_owned().map_err(|error| {
            Failure::new(codes::INTERNAL, format!("cannot take over a descriptor of the call: {error}")).retry(Retry::Later)
        })
    };
    numbers.iter().map(copy).collect()
}

/// Takes the call's flag out of the list on every way out, a panic included.
struct FlagGuard<'a>(&'a Mutex<Vec<(String, Arc<AtomicBool>)>>, Arc<AtomicBool>);

impl Drop for FlagGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, flag)| !Arc::ptr_eq(flag, &self.1));
    }
}

fn answer<B: Backend>(instance: &Instance<B>, request: &[u8], fds: Vec<OwnedFd>) -> (Outcome<Value>, Vec<OwnedFd>) {
    let request: Request = match serde_json::from_slice(request) {
        Ok(request) => request,
        Err(error) => return (Err(Failure::new(codes::INVALID, format!("the request document: {error}"))), Vec::new()),
    };
    if request.v != doc::VERSION {
        let failure = Failure::new(
            codes::UNSUPPORTED,
            format!("documents of version {} are not spoken here, only {}", request.v, doc::VERSION),
        );
        return (Err(failure), Vec::new());
    }
    let flag = Arc::new(AtomicBool::new(false));
    instance.flags.lock().unwrap_or_else(PoisonError::into_inner).push((request.id.clone(), Arc::clone(&flag)));
    let _guard = FlagGuard(&instance.flags, Arc::clone(&flag));
    let now = Instant::now();
    // A deadline beyond the clock's range means "none": a day stands for it.
    let deadline =
        now.checked_add(Duration::from_millis(request.deadline_ms)).unwrap_or_else(|| now + Duration::from_secs(86_400));
    let mut call = Call::new(request.id, deadline, fds, flag, instance.emitter.clone());
    let outcome = dispatch(&instance.backend, &request.method, request.args, &mut call);
    let fds = if outcome.is_ok() { call.reply_fds } else { Vec::new() };
    (outcome, fds)
}

#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn cancel<B: Backend>(this: *mut c_void, id: *const u8, len: usize) {
    if this.is_null() {
        return;
    }
    // SAFETY: `this` came from `open` and lives until `close`.
    let instance = unsafe { &*this.cast::<Instance<B>>() };
    // SAFETY: `id` is valid for `len` bytes during this call.
    let id = unsafe { lent(id, len) };
    let Ok(id) = std::str::from_utf8(id) else { return };
    for (name, flag) in instance.flags.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if name == id {
            flag.store(true, Ordering::Relaxed);
        }
    }
    // A panic here has nobody to be told to: the flag is set, which is what the call looks at; the panic hook has printed it.
    let _told = catch_unwind(AssertUnwindSafe(|| instance.backend.cancel(id)));
}

#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn release(reply: *mut ReplyBuffer) {
    if reply.is_null() {
        return;
    }
    // SAFETY: a buffer that `fill` filled.
    let reply = unsafe { &mut *reply };
    if !reply.owner.is_null() {
        // SAFETY: `owner` is what `fill` boxed; it is cleared below, so that it is freed once.
        drop(unsafe { Box::from_raw(reply.owner.cast::<Owner>()) });
    }
    let struct_size = reply.struct_size;
    *reply = ReplyBuffer { struct_size, ..ReplyBuffer::empty() };
}

#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn close<B: Backend>(this: *mut c_void) {
    if this.is_null() {
        return;
    }
    // SAFETY: `this` is what `open` boxed; the daemon calls `close` once, with no call running.
    let instance = unsafe { Box::from_raw(this.cast::<Instance<B>>()) };
    // As with `cancel`: nobody is left to be told.
    let _dropped = catch_unwind(AssertUnwindSafe(|| drop(instance)));
}
