//! A plugin in this process: the C descriptor behind a safe face.
//!
//! Owns: dlopen, the checks of the descriptor, the calls through its pointers; with the inherited socket, all unsafe code of the
//! daemon. Must not know: frames, threads, hosts, documents beyond the bytes.
//!
//! Trusts a plugin's code (it runs in this address space) and not its numbers: lengths and counts are checked.

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_void};
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use vws_plugin_api::abi::{
    ABI, CallFn, CancelFn, CloseFn, ENTRY_SYMBOL, EntryFn, HostServices, MAX_FDS, OpenFn, PLUGIN_SIZE_MIN, Plugin, ReleaseFn,
    ReplyBuffer,
};

/// `RTLD_NODELETE`: a library is never unloaded, as its threads and thread-local destructors may outlive any `dlclose`.
const RTLD_NODELETE: i32 = 0x1000;

/// Why a plugin cannot be used: fact and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFault {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

fn fault(reason: impl Into<String>, remedy: impl Into<String>) -> LoadFault {
    LoadFault { reason: reason.into(), remedy: remedy.into() }
}

/// A checked descriptor.
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) version: String,
    open: OpenFn,
    call: CallFn,
    cancel: CancelFn,
    release: ReleaseFn,
    close: CloseFn,
}

impl Loaded {
    /// Loads `path` for good and checks its descriptor.
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    pub(crate) fn load(path: &Path) -> Result<Self, LoadFault> {
        // SAFETY: running the library's initializers is what loading a plugin is; the operator chose the file. This happens in a
        // process that is there for it, or, in-process, for a plugin that was declared fit for that.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }.map_err(|error| {
            fault(format!("cannot be loaded: {}", chain(&error)), "install what is missing, or build it for this machine")
        })?;
        // Never closed; NODELETE says the same to the loader.
        let library = ManuallyDrop::new(library);
        // SAFETY: the symbol's type is fixed by the ABI.
        let entry = unsafe { library.get::<EntryFn>(ENTRY_SYMBOL.as_bytes()) }.map_err(|_| {
            fault(
                format!("it exports no `{ENTRY_SYMBOL}`, so it is not a plugin"),
                "name a plugin's file; a Rust plugin needs `export_backend!` and crate type `cdylib`",
            )
        })?;
        // SAFETY: as above; the function takes nothing and returns a pointer to static storage or null.
        let descriptor = unsafe { entry() };
        if descriptor.is_null() {
            return Err(fault("its entry function returned nothing", "report it to the plugin's maker"));
        }
        // SAFETY: every ABI begins with these two members.
        let (struct_size, abi) = unsafe { ((*descriptor).struct_size, (*descriptor).abi) };
        if abi != ABI {
            return Err(fault(
                format!("it was built for ABI {abi}, this daemon speaks ABI {ABI}"),
                "install the plugin's build for this daemon",
            ));
        }
        if struct_size < PLUGIN_SIZE_MIN {
            return Err(fault(
                format!("its descriptor has {struct_size} bytes, ABI {ABI} has at least {PLUGIN_SIZE_MIN}"),
                "report it to the plugin's maker",
            ));
        }
        // SAFETY: the descriptor has at least the size of ABI 1; whatever a later one appended is not read.
        let descriptor = unsafe { *descriptor };
        Self::checked(&descriptor)
    }

    fn checked(descriptor: &Plugin) -> Result<Self, LoadFault> {
        fn there<T>(function: Option<T>, name: &str) -> Result<T, LoadFault> {
            function.ok_or_else(|| fault(format!("its descriptor has no `{name}`"), "report it to the plugin's maker"))
        }
        Ok(Self {
            name: text(descriptor.name, "name")?,
            version: text(descriptor.version, "version")?,
            open: there(descriptor.open, "open")?,
            call: there(descriptor.call, "call")?,
            cancel: there(descriptor.cancel, "cancel")?,
            release: there(descriptor.release, "release")?,
            close: there(descriptor.close, "close")?,
        })
    }
}

/// A loader's message with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[expect(unsafe_code, reason = "reads a C string of the descriptor")]
fn text(pointer: *const c_char, what: &str) -> Result<String, LoadFault> {
    if pointer.is_null() {
        return Err(fault(format!("its descriptor has no {what}"), "report it to the plugin's maker"));
    }
    // SAFETY: the ABI says: zero-terminated, static.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map(str::to_owned)
        .map_err(|_| fault(format!("its descriptor's {what} is not UTF-8"), "report it to the plugin's maker"))
}

/// Takes an event's bytes.
type Emit = Box<dyn Fn(&[u8]) + Send + Sync>;

/// An open instance of a plugin.
pub(crate) struct Instance {
    plugin: Loaded,
    this: *mut c_void,
    /// Kept alive until after `close`: the plugin holds pointers to both.
    _services: Box<HostServices>,
    _emit: Box<Emit>,
}

// SAFETY: the ABI says that `call`, `cancel` and `release` may be called from any thread, `close` from any one.
#[expect(unsafe_code, reason = "the ABI allows calls from any thread")]
unsafe impl Send for Instance {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the ABI allows calls from any thread")]
unsafe impl Sync for Instance {}

/// The `emit` that plugins get.
#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn emit(ctx: *mut c_void, document: *const u8, len: usize) {
    if ctx.is_null() || document.is_null() {
        return;
    }
    // SAFETY: `ctx` is the `Emit` that `open` made; it lives until `close` has returned.
    let emit = unsafe { &*ctx.cast::<Emit>() };
    // SAFETY: the plugin promises `len` bytes for this call.
    let bytes = unsafe { std::slice::from_raw_parts(document, len) };
    emit(bytes);
}

impl Instance {
    /// Opens an instance with `config`; the bytes that come with it are the plugin's reply document.
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    pub(crate) fn open(plugin: Loaded, config: &[u8], on_event: Emit) -> Result<Self, Vec<u8>> {
        let on_event = Box::new(on_event);
        let services = Box::new(HostServices {
            struct_size: size_of::<HostServices>() as u64,
            ctx: (&raw const *on_event).cast_mut().cast(),
            emit: Some(emit),
        });
        let mut this = std::ptr::null_mut();
        let mut reply = ReplyBuffer::empty();
        // SAFETY: all pointers are valid for the call, `services` until `close`.
        let code = unsafe { (plugin.open)(&raw const *services, config.as_ptr(), config.len(), &raw mut this, &raw mut reply) };
        let answer = Answer::new(code, reply, plugin.release);
        if this.is_null() {
            let bytes = answer.bytes().map(<[u8]>::to_vec).unwrap_or_default();
            // A plugin that failed to open may have started threads that emit; what they hold must stay valid.
            std::mem::forget((services, on_event));
            return Err(bytes);
        }
        drop(answer);
        Ok(Self { plugin, this, _services: services, _emit: on_event })
    }

    /// One call. Blocks.
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    pub(crate) fn call(&self, request: &[u8], fds: &[OwnedFd]) -> Answer {
        let mut numbers = [-1; MAX_FDS];
        for (number, fd) in numbers.iter_mut().zip(fds) {
            *number = fd.as_raw_fd();
        }
        let count = u32::try_from(fds.len().min(MAX_FDS)).unwrap_or(0);
        let mut reply = ReplyBuffer::empty();
        // SAFETY: `this` is open; request, descriptors and buffer are valid for the call.
        let code =
            unsafe { (self.plugin.call)(self.this, request.as_ptr(), request.len(), numbers.as_ptr(), count, &raw mut reply) };
        Answer::new(code, reply, self.plugin.release)
    }

    /// The call with this id should end soon.
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    pub(crate) fn cancel(&self, id: &str) {
        // SAFETY: `this` is open; the bytes are valid for the call.
        unsafe { (self.plugin.cancel)(self.this, id.as_ptr(), id.len()) }
    }
}

impl Drop for Instance {
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    fn drop(&mut self) {
        // SAFETY: the last owner drops it, so no call is running; it is closed once.
        unsafe { (self.plugin.close)(self.this) }
    }
}

/// A reply that is still the plugin's; released when dropped.
pub(crate) struct Answer {
    code: i32,
    reply: ReplyBuffer,
    release: ReleaseFn,
}

impl Answer {
    fn new(code: i32, reply: ReplyBuffer, release: ReleaseFn) -> Self {
        Self { code, reply, release }
    }

    /// The document; otherwise what is wrong with the answer.
    #[expect(unsafe_code, reason = "reads the plugin's bytes")]
    pub(crate) fn bytes(&self) -> Result<&[u8], String> {
        if self.code != 0 {
            return Err(format!("the plugin gave no reply (code {})", self.code));
        }
        if self.reply.data.is_null() || self.reply.len == 0 {
            return Err("the plugin's reply is empty".to_owned());
        }
        if isize::try_from(self.reply.len).is_err() {
            return Err(format!("the plugin's reply claims {} bytes", self.reply.len));
        }
        // SAFETY: the plugin promises `len` bytes until `release`, which comes with the drop of `self`.
        Ok(unsafe { std::slice::from_raw_parts(self.reply.data, self.reply.len) })
    }

    /// The descriptors; otherwise what is wrong with them.
    #[expect(unsafe_code, reason = "the plugin's descriptors arrive as numbers")]
    pub(crate) fn fds(&self) -> Result<Vec<BorrowedFd<'_>>, String> {
        let count = self.reply.nfds as usize;
        let Some(numbers) = self.reply.fds.get(..count) else {
            return Err(format!("the plugin's reply has {count} descriptors; the limit is {MAX_FDS}"));
        };
        if numbers.iter().any(|number| *number < 0) {
            return Err("a descriptor of the plugin's reply is negative".to_owned());
        }
        // SAFETY: the plugin keeps them open until `release`, which comes with the drop of `self`.
        Ok(numbers.iter().map(|number| unsafe { BorrowedFd::borrow_raw(*number) }).collect())
    }
}

impl Drop for Answer {
    #[expect(unsafe_code, reason = "runs a vendor's code")]
    fn drop(&mut self) {
        if self.code == 0 {
            // SAFETY: filled by the plugin, released once.
            unsafe { (self.release)(&raw mut self.reply) }
        }
    }
}

/// A copy, closed on exec, of the descriptor `number` that this process was started with.
#[expect(unsafe_code, reason = "a descriptor is inherited as a number")]
pub(crate) fn inherited(number: i32) -> std::io::Result<OwnedFd> {
    if number < 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    }
    // SAFETY: it is only duplicated; a number that is not open makes that fail.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

/// Closes the descriptor `number` that this process was started with, once [`inherited`] has copied it.
#[expect(unsafe_code, reason = "a descriptor is inherited as a number")]
pub(crate) fn close_inherited(number: i32) {
    use std::os::fd::FromRawFd;
    // SAFETY: called once, at the start, for the descriptor that the command line named: nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
}
