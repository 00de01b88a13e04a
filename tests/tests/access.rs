//! Who may see and do what, on a real bus, with the identities of real users. Needs root to become them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use vws_tests::bus::{may_become_others, none};
use vws_tests::{Plan, Site, until};
use zbus::names::InterfaceName;

const ANN: u32 = 1;
/// User `bin`.
const BOB: u32 = 2;
const WORKSPACE: &str = "org.virtualworkspaces1.Workspace";

/// A workspace of Ann's, stopped; its object path.
fn of_ann(site: &Site) -> String {
    site.as_user(ANN, |client| async move {
        let manager = client.manager().await.unwrap();
        let mut spec = none();
        spec.insert("image", zbus::Variant::from("tiny"));
        spec.insert("memory-mib", zbus::Variant::from(64_u64));
        spec.insert("target", zbus::Variant::from("stopped"));
        let (workspace, _job) = manager.create_workspace("hers", &spec, &none()).await.unwrap();
        workspace.to_string()
    })
}

/// What Bob is answered when he asks for a property at `path`, in words.
fn asked_by_bob(site: &Site, path: String) -> String {
    site.as_user(BOB, move |client| async move {
        let asked = client
            .connection()
            .call_method(
                Some("org.virtualworkspaces1"),
                path.as_str(),
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &(InterfaceName::try_from(WORKSPACE).unwrap(), "State"),
            )
            .await;
        format!("{:?}", asked.unwrap_err()).replace(&path, "PATH")
    })
}

#[test]
fn what_one_may_not_see_is_not_there() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let path = of_ann(&site);
    let missing = format!("{}{}", &path[..path.len() - 4], "0000");
    let hidden = asked_by_bob(&site, path.clone());
    let absent = asked_by_bob(&site, missing);
    // The messages differ in the serial numbers of the bus alone.
    let words = |text: &str| text.split("Msg").next().unwrap_or_default().to_owned();
    assert_eq!(words(&hidden), words(&absent));
    let seen = |uid| {
        site.as_user(uid, |client| async move {
            let manager = client.manager().await.unwrap();
            let (list, _) = manager.list(&none(), &none()).await.unwrap();
            list.len()
        })
    };
    assert_eq!((seen(ANN), seen(BOB), seen(0)), (1, 0, 1));
}

/// The error name of a method of Ann's workspace that Bob calls, or `ok`.
fn called_by(site: &Site, uid: u32, path: &str, member: &'static str) -> String {
    let path = path.to_owned();
    site.as_user(uid, move |client| async move {
        match vws_tests::bus::call(&client, &path, WORKSPACE, member, &none()).await {
            Ok(_) => "ok".to_owned(),
            Err(failure) => failure.name.rsplit('.').next().unwrap_or_default().to_owned(),
        }
    })
}

#[test]
fn each_right_opens_what_it_names() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let path = of_ann(&site);
    site.until_state("hers", "stopped");
    assert_eq!(called_by(&site, BOB, &path, "Describe"), "UnknownObject");
    for (right, describe, start, destroy) in
        [("view", "ok", "AccessDenied", "AccessDenied"), ("use", "ok", "ok", "AccessDenied"), ("manage", "ok", "ok", "ok")]
    {
        site.run(&["change", "hers", "--grant", &format!("user:bin={right}")]);
        assert_eq!(called_by(&site, BOB, &path, "Describe"), describe, "{right}");
        assert_eq!(called_by(&site, BOB, &path, "Start"), start, "{right}");
        if start == "ok" {
            site.until_state("hers", "running");
        }
        assert_eq!(called_by(&site, BOB, &path, "Destroy"), destroy, "{right}");
    }
    until("it is gone", || site.ok(&["list"]).as_array().unwrap().is_empty().then_some(()));
    site.assert_empty(&["h1"]);
}

#[test]
fn administrators_keep_their_own_way_when_scripts_are_broken() {
    if !may_become_others() {
        return;
    }
    for (broken, refused) in [
        ("return { decide = function() return deny(\"closed\", \"nobody\") end }", "AccessDenied"),
        ("return { decide = function() while true do end end }", "PolicyFailure"),
        ("return { decide = function( }", ""),
    ] {
        let mut site = Site::start(&Plan::default());
        site.import("tiny");
        of_ann(&site);
        site.until_state("hers", "stopped");
        site.kill_daemon();
        std::fs::write(site.policy("access.lua"), broken).unwrap();
        site.start_daemon();
        let start = site.vws(&["start", "hers"]);
        if refused.is_empty() {
            // What does not compile does not come into force by a restart either.
            assert_eq!((start.code, &site.ok(&["policy", "status"])["state"]), (0, &"stale".into()), "{broken}: {start:?}");
            continue;
        }
        assert_eq!(start.error().0, refused, "{broken}: {start:?}");
        assert_eq!(site.ok(&["list"]).as_array().unwrap().len(), 1, "{broken}");
        site.run(&["destroy", "hers"]);
        assert!(site.machines("h1").is_empty(), "{broken}");
        let decisions = site.ok(&["decisions"]);
        let native =
            decisions.as_array().unwrap().iter().any(|decision| decision["native"] == true && decision["verb"] == "destroy");
        assert!(native, "{broken}: the administrator's own way is not recorded: {decisions}");
    }
}
