-- The first schema. Ids are 32 lower-case hexadecimal digits, times microseconds since the epoch UTC, nested parts JSON text.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a transaction of the ledger, numbered without gaps.
CREATE TABLE transactions (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL
) STRICT;

-- Workspaces, also the gone ones. `user_data` stands apart: only a deployment reads it, and it is wiped when it is gone.
CREATE TABLE workspaces (
    id           TEXT PRIMARY KEY,
    owner        INTEGER NOT NULL,
    owner_name   TEXT NOT NULL,
    "group"      TEXT NOT NULL,
    name         TEXT NOT NULL,
    spec         TEXT NOT NULL,
    user_data    TEXT NOT NULL,
    images       TEXT NOT NULL,
    vcpus        INTEGER NOT NULL,
    memory_mib   INTEGER NOT NULL,
    disk_gib     INTEGER NOT NULL,
    state        TEXT NOT NULL,
    target       TEXT NOT NULL,
    cause_code   TEXT NOT NULL,
    cause_text   TEXT NOT NULL,
    host         TEXT,
    also_on      TEXT,
    job          TEXT,
    lease        TEXT NOT NULL,
    bundle       TEXT,
    snapshots    TEXT NOT NULL,
    cpu          TEXT NOT NULL,
    plugin_state TEXT NOT NULL,
    deployments  INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX workspaces_live_name ON workspaces (owner, name) WHERE state <> 'gone';
CREATE INDEX workspaces_gone ON workspaces (changed_at, id) WHERE state = 'gone';

-- The ledger: a version is in force from `sequence_from` up to, not including, `sequence_to`; NULL is the present. `at_from` and `at_to` are the
-- times of those transactions, which accounts need for longer than the transactions are kept.
CREATE TABLE reservations (
    workspace     TEXT NOT NULL REFERENCES workspaces (id),
    sequence_from INTEGER NOT NULL,
    sequence_to   INTEGER,
    at_from       INTEGER NOT NULL,
    at_to         INTEGER,
    name          TEXT NOT NULL,
    owner         INTEGER NOT NULL,
    "group"       TEXT NOT NULL,
    host          TEXT,
    also_on       TEXT,
    vcpus         INTEGER NOT NULL,
    memory_mib    INTEGER NOT NULL,
    disk_gib      INTEGER NOT NULL,
    running       INTEGER NOT NULL,
    preemptible   INTEGER NOT NULL,
    labels        TEXT NOT NULL,
    lease_from    INTEGER NOT NULL,
    lease_until   INTEGER,
    addresses     INTEGER NOT NULL,
    PRIMARY KEY (workspace, sequence_from),
    CHECK (sequence_to > sequence_from)
) STRICT;
CREATE UNIQUE INDEX reservations_now ON reservations (workspace) WHERE sequence_to IS NULL;
CREATE INDEX reservations_from ON reservations (sequence_from);
CREATE INDEX reservations_then ON reservations (sequence_to) WHERE sequence_to IS NOT NULL;
CREATE INDEX reservations_ended ON reservations (at_to) WHERE at_to IS NOT NULL;

CREATE TABLE hosts (
    name                       TEXT NOT NULL,
    sequence_from              INTEGER NOT NULL,
    sequence_to                INTEGER,
    backend                    TEXT NOT NULL,
    settings                   TEXT NOT NULL,
    labels                     TEXT NOT NULL,
    cpu_overcommit_percent     INTEGER NOT NULL,
    memory_overcommit_percent  INTEGER NOT NULL,
    reserve                    TEXT NOT NULL,
    image_cache_gib            INTEGER NOT NULL,
    enabled                    INTEGER NOT NULL,
    facts                      TEXT NOT NULL,
    foreign_use                TEXT NOT NULL,
    connection                 TEXT NOT NULL,
    version                    INTEGER NOT NULL,
    seen_at                    INTEGER NOT NULL,
    PRIMARY KEY (name, sequence_from),
    CHECK (sequence_to > sequence_from)
) STRICT;
CREATE UNIQUE INDEX hosts_now ON hosts (name) WHERE sequence_to IS NULL;
CREATE INDEX hosts_from ON hosts (sequence_from);
CREATE INDEX hosts_then ON hosts (sequence_to) WHERE sequence_to IS NOT NULL;

CREATE TABLE networks (
    name          TEXT NOT NULL,
    sequence_from INTEGER NOT NULL,
    sequence_to   INTEGER,
    kind          TEXT NOT NULL,
    source        TEXT NOT NULL,
    pool          TEXT,
    dhcp          INTEGER NOT NULL,
    anti_spoofing INTEGER NOT NULL,
    labels        TEXT NOT NULL,
    enabled       INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    PRIMARY KEY (name, sequence_from),
    CHECK (sequence_to > sequence_from)
) STRICT;
CREATE UNIQUE INDEX networks_now ON networks (name) WHERE sequence_to IS NULL;
CREATE INDEX networks_from ON networks (sequence_from);
CREATE INDEX networks_then ON networks (sequence_to) WHERE sequence_to IS NOT NULL;

-- Pairs of address and MAC: held until the machine was seen to be gone (`released_at`), remembered after that.
CREATE TABLE addresses (
    network       TEXT NOT NULL,
    address       TEXT NOT NULL,
    sequence_from INTEGER NOT NULL,
    sequence_to   INTEGER,
    mac           TEXT NOT NULL,
    workspace     TEXT NOT NULL,
    nic           INTEGER NOT NULL,
    owner         INTEGER NOT NULL,
    name          TEXT NOT NULL,
    since         INTEGER NOT NULL,
    released_at   INTEGER,
    PRIMARY KEY (network, address, sequence_from),
    CHECK (sequence_to > sequence_from)
) STRICT;
CREATE UNIQUE INDEX addresses_now ON addresses (network, address) WHERE sequence_to IS NULL;
CREATE INDEX addresses_from ON addresses (sequence_from);
CREATE INDEX addresses_then ON addresses (sequence_to) WHERE sequence_to IS NOT NULL;

CREATE TABLE images (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    digest           TEXT NOT NULL,
    format           TEXT NOT NULL,
    size_bytes       INTEGER NOT NULL,
    virtual_size_mib INTEGER NOT NULL,
    boot             TEXT NOT NULL,
    owner            INTEGER NOT NULL,
    visibility       TEXT NOT NULL,
    state            TEXT NOT NULL,
    source           TEXT NOT NULL,
    created_at       INTEGER NOT NULL
) STRICT;

-- Serialized workspaces, also the consumed ones.
CREATE TABLE bundles (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    backend     TEXT NOT NULL,
    manifest    TEXT NOT NULL,
    files       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    consumed_at INTEGER
) STRICT;
CREATE INDEX bundles_consumed ON bundles (consumed_at, id) WHERE consumed_at IS NOT NULL;

-- Jobs. `shown` is whether the job is still on the bus.
CREATE TABLE jobs (
    id               TEXT PRIMARY KEY,
    kind             TEXT NOT NULL,
    workspace        TEXT,
    image            TEXT,
    host             TEXT,
    owner            INTEGER NOT NULL,
    actor            TEXT NOT NULL,
    args             TEXT NOT NULL,
    state            TEXT NOT NULL,
    step             INTEGER NOT NULL,
    scratch          TEXT NOT NULL,
    progress         TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL,
    error            TEXT,
    message          TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    shown            INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX jobs_shown ON jobs (id) WHERE shown = 1;
CREATE INDEX jobs_kept ON jobs (ended_at, id) WHERE shown = 0;

-- Decisions in the order in which they were recorded; `ledger`, the sequence number that a decision saw, and `generation` never fall. `body` is
-- everything that is not searched for, packed (src/packed.rs).
CREATE TABLE decisions (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    at         INTEGER NOT NULL,
    ledger     INTEGER NOT NULL,
    verb       TEXT NOT NULL,
    name       TEXT NOT NULL,
    uid        INTEGER NOT NULL,
    workspace  TEXT,
    policy     TEXT NOT NULL,
    generation INTEGER NOT NULL,
    permitted  INTEGER NOT NULL,
    native     INTEGER NOT NULL,
    host       TEXT,
    body       BLOB NOT NULL
) STRICT;
CREATE INDEX decisions_workspace ON decisions (workspace, position) WHERE workspace IS NOT NULL;
CREATE INDEX decisions_name ON decisions (name, position);
CREATE INDEX decisions_uid ON decisions (uid, position);
CREATE INDEX decisions_policy ON decisions (policy);

CREATE TABLE events (
    sequence  INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    workspace TEXT,
    job       TEXT,
    host      TEXT,
    image     TEXT,
    owner     INTEGER NOT NULL,
    text      TEXT NOT NULL
) STRICT;

CREATE TABLE requests (
    uid        INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    digest     TEXT NOT NULL,
    workspace  TEXT,
    job        TEXT,
    image      TEXT,
    at         INTEGER NOT NULL,
    PRIMARY KEY (uid, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_at ON requests (at);

-- The sources of each policy set that decided something, once by hash: a JSON object of file name to text.
CREATE TABLE policy_sets (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    hash     TEXT NOT NULL UNIQUE,
    files    TEXT NOT NULL
) STRICT;

-- Which policy set was in force when: `generation` counts up with each that came into force. `cause` and `actor` say how and by whom, `report` what
-- the gate found, `pinned_over` is the hash of the folder's files that an older set was put back over (empty: none).
CREATE TABLE policy_generations (
    generation  INTEGER PRIMARY KEY,
    hash        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    cause       TEXT NOT NULL,
    actor       TEXT NOT NULL,
    report      TEXT NOT NULL,
    pinned_over TEXT NOT NULL
) STRICT;
CREATE INDEX policy_generations_hash ON policy_generations (hash);
