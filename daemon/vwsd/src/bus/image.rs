//! `org.virtualworkspaces1.Image`: an image of the catalogue.

use super::call::{Call, Method, Reply, later};
use super::decode;
use super::encode::{self, text};
use super::error::Failure;
use super::keys::Dict;
use super::object::Object;
use super::value::{Property, Value};
use crate::service::CallOptions;
use vws_bus::names;
use vws_domain::{Boot, Firmware, Image, ImageId, ImageState, Visibility};

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "Verify", run: |call| later(verify(call)) },
    Method { name: "Change", run: |call| later(change(call)) },
    Method { name: "Remove", run: |call| later(remove(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<Image>] = &[
    Property { name: "Id", get: |image| image.id.to_string().into() },
    Property { name: "Name", get: |image| text(&image.name) },
    Property { name: "Digest", get: |image| text(&image.digest) },
    Property { name: "Format", get: |image| image.format.name().into() },
    Property { name: "SizeBytes", get: |image| image.size_bytes.into() },
    Property { name: "VirtualSizeMib", get: |image| image.virtual_size_mib.into() },
    Property { name: "Boot", get: |image| boot(&image.boot).0.into() },
    Property { name: "Firmware", get: |image| boot(&image.boot).1.into() },
    Property { name: "Owner", get: |image| image.owner.into() },
    Property { name: "Visibility", get: |image| visibility(image.visibility).into() },
    Property { name: "State", get: |image| state(image.state).into() },
    Property { name: "Source", get: |image| text(&image.source) },
    Property { name: "CreatedAt", get: |image| image.created_at.0.into() },
];

fn boot(boot: &Boot) -> (&'static str, &'static str) {
    match boot {
        Boot::Disk(Firmware::Bios) => ("disk", "bios"),
        Boot::Disk(Firmware::Uefi) => ("disk", "uefi"),
        Boot::Kernel { .. } => ("kernel", ""),
    }
}

fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Private => "private",
        Visibility::Public => "public",
    }
}

fn state(state: ImageState) -> &'static str {
    match state {
        ImageState::Importing => "importing",
        ImageState::Ready => "ready",
        ImageState::Damaged => "damaged",
    }
}

async fn verify(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::IMAGE, options)?)?;
    let job = call.state.service.verify_image(&call.caller, id(&call)?, options).await?;
    call.reply(&(encode::job(job),))
}

async fn change(call: Call) -> Reply {
    let (changes, options): (Dict, Dict) = call.arguments()?;
    call.options(names::IMAGE, options)?;
    let change = decode::image_change(changes)?;
    call.state.service.change_image(&call.caller, id(&call)?, change, CallOptions::default()).await?;
    call.reply(&())
}

async fn remove(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::IMAGE, options)?;
    call.state.service.remove_image(&call.caller, id(&call)?, CallOptions::default()).await?;
    call.reply(&())
}

fn id(call: &Call) -> Result<ImageId, Failure> {
    match &call.object {
        Object::One(Value::Image(image)) => Ok(image.id),
        _ => Err(Failure::misrouted()),
    }
}
