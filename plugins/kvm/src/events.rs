//! The libvirt calls that the safe crate lacks: the event loop's callbacks, save, abort, and streams that do not block.
//!
//! Owns: every line of unsafe code of this plugin. Callbacks run on the one event thread; they copy what they are told into a
//! channel and return: they never call libvirt, never block, never unwind. Must not know: what events mean.

#![expect(unsafe_code, reason = "libvirt's C interface where the safe crate has none")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::Sender;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::stream::Stream;
use virt_sys as sys;

/// What libvirt told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something happened to the domain of this name.
    Changed(String),
    /// The domain of this name was reset or rebooted.
    Rebooted(String),
    /// The connection is gone, for this reason.
    Closed(String),
}

/// Starts libvirt's default event loop, once for the process and before any connection is opened.
pub fn start_loop() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|error| error.to_string())?;
            // The loop sleeps for ever if it has nothing to watch; a timer makes it look for what was added meanwhile.
            // SAFETY: the callback is a plain function that ignores its arguments; no data is handed over.
            unsafe { sys::virEventAddTimeout(1_000, Some(tick), std::ptr::null_mut(), None) };
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(|| {
                    loop {
                        if virt::event::event_run_default_impl().is_err() {
                            std::thread::sleep(std::time::Duration::from_millis(100));
                        }
                    }
                })
                .map_err(|error| format!("cannot start the event thread: {error}"))?;
            Ok(())
        })
        .clone()
}

extern "C" fn tick(_timer: c_int, _data: *mut c_void) {}

/// Sends to `to` what happens on this connection, until the connection is closed.
pub fn subscribe(connection: &Connect, to: &Sender<Told>) -> Result<(), Error> {
    type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
    let boxed = || Box::into_raw(Box::new(to.clone())).cast::<c_void>();
    // SAFETY: the lifecycle callback has the signature that libvirt uses for this event id; libvirt asks for the generic type.
    // Each callback gets a sender of its own, which `free` takes back when libvirt drops the callback.
    unsafe {
        let lifecycle: Generic = std::mem::transmute::<
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int,
            Generic,
        >(lifecycle);
        for (event, callback) in
            [(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle), (sys::VIR_DOMAIN_EVENT_ID_REBOOT, rebooted as Generic)]
        {
            let data = boxed();
            let id = sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                std::ptr::null_mut(),
                event as c_int,
                Some(callback),
                data,
                Some(free),
            );
            if id < 0 {
                let error = Error::last_error();
                free(data);
                return Err(error);
            }
        }
        let data = boxed();
        if sys::virConnectRegisterCloseCallback(connection.as_ptr(), Some(closed), data, Some(free)) < 0 {
            let error = Error::last_error();
            free(data);
            return Err(error);
        }
    }
    Ok(())
}

/// Gives `told` to the sender behind `data`.
///
/// # Safety
/// `data` has to come from `subscribe` and not have been freed.
unsafe fn send(data: *mut c_void, told: impl FnOnce() -> Told) {
    // A receiver that is gone, or a panic, ends here: nothing may unwind into C.
    let _ended = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: by the contract above.
        let to = unsafe { &*data.cast::<Sender<Told>>() };
        let _gone = to.send(told());
    }));
}

/// The domain's name; libvirt keeps it in the object, so nothing is called over the wire.
///
/// # Safety
/// `domain` has to be a domain that libvirt lends for the time of a callback.
unsafe fn name(domain: sys::virDomainPtr) -> String {
    // SAFETY: by the contract above; the text lives as long as the domain.
    unsafe {
        let name = sys::virDomainGetName(domain);
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

unsafe extern "C" fn lifecycle(
    _c: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    data: *mut c_void,
) -> c_int {
    // SAFETY: libvirt calls this with what `subscribe` registered and a domain that it lends.
    unsafe { send(data, || Told::Changed(name(domain))) };
    0
}

unsafe extern "C" fn rebooted(_c: sys::virConnectPtr, domain: sys::virDomainPtr, data: *mut c_void) {
    // SAFETY: as above.
    unsafe { send(data, || Told::Rebooted(name(domain))) };
}

unsafe extern "C" fn closed(_c: sys::virConnectPtr, reason: c_int, data: *mut c_void) {
    let why = match reason.cast_unsigned() {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "libvirt closed the connection",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "libvirt did not answer keep-alive messages",
        sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "the connection was closed here",
        _ => "the connection to libvirt broke",
    };
    // SAFETY: as above.
    unsafe { send(data, || Told::Closed(why.to_owned())) };
}

unsafe extern "C" fn free(data: *mut c_void) {
    // SAFETY: libvirt calls this once for each registration, with the pointer that `subscribe` made.
    drop(unsafe { Box::from_raw(data.cast::<Sender<Told>>()) });
}

/// Saves the domain's memory into the file `path` on the host. `paused`: how it is to be restored if nobody says otherwise.
pub fn save(domain: &Domain, path: &str, paused: bool) -> Result<(), Error> {
    let path = CString::new(path)?;
    let flags = if paused { sys::VIR_DOMAIN_SAVE_PAUSED } else { sys::VIR_DOMAIN_SAVE_RUNNING };
    // SAFETY: the domain is valid as long as it is borrowed, the path is a C string, no XML is given.
    let done = unsafe { sys::virDomainSaveFlags(domain.as_ptr(), path.as_ptr(), std::ptr::null(), flags) };
    if done < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// Gives up the long job that the domain is in.
pub fn abort(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is valid as long as it is borrowed.
    if unsafe { sys::virDomainAbortJob(domain.as_ptr()) } < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// Changes the limits of a running machine's disk: names and values.
pub fn tune_disk(domain: &Domain, disk: &str, values: &[(&str, u64)]) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    with_parameters(values, |parameters, count| {
        // SAFETY: the domain is valid as long as it is borrowed, the name is a C string, the parameters are as many as said.
        unsafe { sys::virDomainSetBlockIoTune(domain.as_ptr(), disk.as_ptr(), parameters, count, sys::VIR_DOMAIN_AFFECT_LIVE) }
    })
}

/// Changes how a running machine is scheduled: names and values.
pub fn tune_cpu(domain: &Domain, values: &[(&str, u64)]) -> Result<(), Error> {
    with_parameters(values, |parameters, count| {
        // SAFETY: the domain is valid as long as it is borrowed, the parameters are as many as said.
        unsafe { sys::virDomainSetSchedulerParametersFlags(domain.as_ptr(), parameters, count, sys::VIR_DOMAIN_AFFECT_LIVE) }
    })
}

fn with_parameters(values: &[(&str, u64)], call: impl FnOnce(sys::virTypedParameterPtr, c_int) -> c_int) -> Result<(), Error> {
    let mut parameters: sys::virTypedParameterPtr = std::ptr::null_mut();
    let (mut count, mut most) = (0, 0);
    let mut done = Ok(());
    for (name, value) in values {
        let name = CString::new(*name)?;
        // SAFETY: libvirt owns and grows the list; the name is a C string that it copies.
        if unsafe { sys::virTypedParamsAddULLong(&mut parameters, &mut count, &mut most, name.as_ptr(), *value) } < 0 {
            done = Err(Error::last_error());
        }
    }
    if done.is_ok() && call(parameters, count) < 0 {
        done = Err(Error::last_error());
    }
    // SAFETY: the list is the one that libvirt made above, and nobody holds it any more.
    unsafe { sys::virTypedParamsFree(parameters, count) };
    done
}

/// Figures of a domain: its name, and each number that libvirt tells.
pub type Figures = (String, Vec<(String, u64)>);

/// The numbers of a list of parameters that libvirt answered.
///
/// # Safety
/// `parameters` has to lead to so many parameters of libvirt's, or be null for none.
unsafe fn numbers(parameters: sys::virTypedParameterPtr, count: c_int) -> Vec<(String, u64)> {
    let mut numbers = Vec::new();
    if parameters.is_null() {
        return numbers;
    }
    for at in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: by the contract above; a number is read as the type that its parameter names.
        unsafe {
            let parameter = &*parameters.add(at);
            let value = match parameter.type_.cast_unsigned() {
                sys::VIR_TYPED_PARAM_INT => u64::try_from(parameter.value.i).ok(),
                sys::VIR_TYPED_PARAM_UINT => Some(u64::from(parameter.value.ui)),
                sys::VIR_TYPED_PARAM_LLONG => u64::try_from(parameter.value.l).ok(),
                sys::VIR_TYPED_PARAM_ULLONG => Some(parameter.value.ul),
                _ => None,
            };
            if let Some(value) = value {
                numbers.push((CStr::from_ptr(parameter.field.as_ptr()).to_string_lossy().into_owned(), value));
            }
        }
    }
    numbers
}

/// The long job that a domain is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Whether it moves the domain to another host.
    pub migrates: bool,
    /// Bytes moved.
    pub done: u64,
    /// Bytes in all, as far as known by now.
    pub total: u64,
}

/// The long job that the domain is in, if it is in one.
pub fn job(domain: &Domain) -> Result<Option<Job>, Error> {
    let (mut kind, mut count) = (0, 0);
    let mut parameters: sys::virTypedParameterPtr = std::ptr::null_mut();
    // SAFETY: the domain is valid as long as it is borrowed. libvirt answers a list of its own, which is freed after it was read.
    let numbers = unsafe {
        if sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut parameters, &mut count, 0) < 0 {
            return Err(Error::last_error());
        }
        let numbers = numbers(parameters, count);
        sys::virTypedParamsFree(parameters, count);
        numbers
    };
    if kind.cast_unsigned() == sys::VIR_DOMAIN_JOB_NONE {
        return Ok(None);
    }
    let of = |name: &str| numbers.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value);
    Ok(Some(Job {
        migrates: of("operation") == u64::from(sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT),
        done: of("data_processed"),
        total: of("data_total"),
    }))
}

/// Figures of all domains that run or stand still, in one call. A domain that is busy with something long is told of as far as
/// that is possible without waiting.
pub fn figures(connection: &Connect) -> Result<Vec<Figures>, Error> {
    let wanted = sys::VIR_DOMAIN_STATS_STATE
        | sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON
        | sys::VIR_DOMAIN_STATS_INTERFACE
        | sys::VIR_DOMAIN_STATS_BLOCK;
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    let mut all = Vec::new();
    // SAFETY: the connection is valid as long as it is borrowed. libvirt answers so many records, each with so many parameters,
    // and frees them all in the end. A number is read as the type that its record names.
    unsafe {
        let count = sys::virConnectGetAllDomainStats(connection.as_ptr(), wanted, &mut records, flags);
        let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
        for at in 0..count {
            let record = &**records.add(at);
            all.push((name(record.dom), numbers(record.params, record.nparams)));
        }
        sys::virDomainStatsRecordListFree(records);
    }
    Ok(all)
}

/// What a stream that does not block answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; 0 of a read is the end.
    Bytes(usize),
    /// Nothing now.
    Nothing,
}

/// Reads what is there from a stream made with `VIR_STREAM_NONBLOCK`.
pub fn receive(stream: &Stream, into: &mut [u8]) -> Result<Moved, Error> {
    // SAFETY: the stream is valid as long as it is borrowed, the buffer is writable for its length.
    moved(unsafe { sys::virStreamRecv(stream.as_ptr(), into.as_mut_ptr().cast(), into.len()) })
}

/// Writes what fits to a stream made with `VIR_STREAM_NONBLOCK`.
pub fn transmit(stream: &Stream, from: &[u8]) -> Result<Moved, Error> {
    // SAFETY: the stream is valid as long as it is borrowed, the buffer is readable for its length.
    moved(unsafe { sys::virStreamSend(stream.as_ptr(), from.as_ptr().cast(), from.len()) })
}

fn moved(answer: c_int) -> Result<Moved, Error> {
    match answer {
        -2 => Ok(Moved::Nothing),
        other => usize::try_from(other).map(Moved::Bytes).map_err(|_negative| Error::last_error()),
    }
}

/// What a stream of a file with holes answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes.
    Bytes(usize),
    /// So many zeros that nobody stored.
    Hole(u64),
    /// That was all.
    End,
}

/// Reads the next piece of a file from a stream that blocks.
pub fn receive_piece(stream: &Stream, into: &mut [u8]) -> Result<Piece, Error> {
    // SAFETY: the stream is valid as long as it is borrowed, the buffer is writable for its length, the number is ours.
    unsafe {
        let flags = sys::VIR_STREAM_RECV_STOP_AT_HOLE;
        match sys::virStreamRecvFlags(stream.as_ptr(), into.as_mut_ptr().cast(), into.len(), flags) {
            0 => Ok(Piece::End),
            -3 => {
                let mut length = 0;
                if sys::virStreamRecvHole(stream.as_ptr(), &mut length, 0) < 0 {
                    return Err(Error::last_error());
                }
                Ok(Piece::Hole(u64::try_from(length).unwrap_or(0)))
            }
            count => usize::try_from(count).map(Piece::Bytes).map_err(|_negative| Error::last_error()),
        }
    }
}

/// Says that the next `length` bytes are zeros, to a stream of a file with holes.
pub fn transmit_hole(stream: &Stream, length: u64) -> Result<(), Error> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // SAFETY: the stream is valid as long as it is borrowed.
    if unsafe { sys::virStreamSendHole(stream.as_ptr(), length, 0) } < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// Ends a stream: after what was sent has arrived if it ends `well`, else at once.
pub fn end(stream: &Stream, well: bool) {
    // SAFETY: the stream is valid as long as it is borrowed. A stream that is ended already answers an error, which is no news.
    unsafe {
        if !well || sys::virStreamFinish(stream.as_ptr()) < 0 {
            sys::virStreamAbort(stream.as_ptr());
        }
    }
}
