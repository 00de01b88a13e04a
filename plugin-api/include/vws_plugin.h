/* The plugin interface of vwsd, ABI 1. Everything that is frozen stands here; what a machine is travels as JSON documents.
 * The contract (ownership, threads, versions, descriptors, cancel) is ABI.md.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef VWS_PLUGIN_H
#define VWS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VWS_PLUGIN_ABI 1u      /* the number in vws_plugin.abi */
#define VWS_PLUGIN_MAX_FDS 16  /* descriptors of one call or one reply */

/* What the daemon offers. Valid until `close` returns. Members are only ever appended: read no further than struct_size. */
struct vws_host {
    uint64_t struct_size;
    void *ctx;
    /* Sends one event document. Copies it; any thread; never after `close` has returned. */
    void (*emit)(void *ctx, const uint8_t *document, size_t len);
};

/* An answer. The daemon zeroes it and sets struct_size; the plugin fills it; the daemon gives it to `release`, once. Bytes and
 * descriptors stay the plugin's until then: the daemon copies the ones and duplicates the others before it calls `release`. */
struct vws_reply {
    uint64_t struct_size;
    const uint8_t *data; /* a reply document, UTF-8, not terminated */
    size_t len;
    void *owner;         /* the plugin's own, for `release` */
    uint32_t nfds;
    int32_t fds[VWS_PLUGIN_MAX_FDS];
};

/* `open` and `call` return 0 when `reply` holds a document, be it of success or failure; anything else means that not even
 * that was possible, and the daemon makes a failure of its own. Nothing may unwind or jump out of any of these. */
struct vws_plugin {
    uint64_t struct_size;
    uint32_t abi;
    uint32_t reserved; /* 0 */
    const char *name;
    const char *version;
    /* Makes an instance. `config` is a JSON document, valid during the call. */
    int32_t (*open)(const struct vws_host *host, const uint8_t *config, size_t len, void **self, struct vws_reply *reply);
    /* One request. `request` and `fds` are the daemon's and valid during the call: copy or dup() what is kept. May block. */
    int32_t (*call)(void *self, const uint8_t *request, size_t len, const int32_t *fds, uint32_t nfds,
                    struct vws_reply *reply);
    /* The call with this id should end soon. From another thread, while `call` runs; may be repeated; must not block. */
    void (*cancel)(void *self, const uint8_t *id, size_t len);
    /* Frees the bytes and closes the descriptors of a reply. Any thread; after a return other than 0 it is not called. */
    void (*release)(struct vws_reply *reply);
    /* Ends the instance; no call is running. */
    void (*close)(void *self);
};

/* The one symbol that a plugin exports. Static storage; NULL if the plugin cannot work at all. */
const struct vws_plugin *vws_plugin_entry(void);

#ifdef __cplusplus
}
#endif

#endif
