/* A plugin that does what a plugin must not do, for tests. Also a small C plugin: it uses nothing but the header and libc. */
#include "vws_plugin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef ROGUE_ABI
#define ROGUE_ABI VWS_PLUGIN_ABI
#endif
#ifndef ROGUE_SIZE
#define ROGUE_SIZE sizeof(struct vws_plugin)
#endif
#ifndef ROGUE_CONCURRENCY
#define ROGUE_CONCURRENCY "parallel"
#endif

struct self {
    struct vws_host host;
    pthread_mutex_t lock;
    char cancelled[64][128];
    unsigned cancels;
    int running, peak;
};

static int32_t answer(struct vws_reply *reply, const char *text) {
    char *copy = strdup(text);
    reply->data = (const uint8_t *)copy;
    reply->len = strlen(copy);
    reply->owner = copy;
    return 0;
}

static int32_t rogue_open(const struct vws_host *host, const uint8_t *config, size_t len, void **self, struct vws_reply *reply) {
    struct self *made;
    char text[256] = "";
    memcpy(text, config, len < sizeof text - 1 ? len : sizeof text - 1);
    if (strstr(text, "refuse"))
        return answer(reply, "{\"v\":1,\"err\":{\"code\":\"invalid\",\"retry\":\"never\",\"message\":\"no licence key\",\"remedy\":\"buy one\"}}");
    made = calloc(1, sizeof *made);
    made->host = *host;
    pthread_mutex_init(&made->lock, NULL);
    *self = made;
    return answer(reply, "{\"v\":1,\"ok\":{}}");
}

static void member(const char *request, const char *name, char *out, size_t room) {
    char pattern[64];
    const char *at, *end;
    snprintf(pattern, sizeof pattern, "\"%s\":\"", name);
    out[0] = 0;
    if (!(at = strstr(request, pattern)))
        return;
    at += strlen(pattern);
    end = strchr(at, '"');
    if (end && (size_t)(end - at) < room) {
        memcpy(out, at, (size_t)(end - at));
        out[end - at] = 0;
    }
}

static long number(const char *request, const char *name) {
    char pattern[64];
    const char *at;
    snprintf(pattern, sizeof pattern, "\"%s\":", name);
    at = strstr(request, pattern);
    return at ? atol(at + strlen(pattern)) : 0;
}

static void emit(struct self *self, const char *what) {
    char text[256];
    snprintf(text, sizeof text, "{\"event\":\"log\",\"level\":\"info\",\"message\":\"%s\"}", what);
    self->host.emit(self->host.ctx, (const uint8_t *)text, strlen(text));
}

static int was_cancelled(struct self *self, const char *id) {
    unsigned i, found = 0;
    pthread_mutex_lock(&self->lock);
    for (i = 0; i < self->cancels && i < 64; i++)
        found |= !strcmp(self->cancelled[i], id);
    pthread_mutex_unlock(&self->lock);
    return (int)found;
}

static int32_t work(struct self *self, const char *request, size_t len, const int32_t *fds, uint32_t nfds, struct vws_reply *reply) {
    char method[64], id[128], host[64], text[512];
    member(request, "method", method, sizeof method);
    member(request, "id", id, sizeof id);
    member(request, "host", host, sizeof host);
    if (!strcmp(method, "describe"))
        return answer(reply, "{\"v\":1,\"future\":1,\"ok\":{\"name\":\"rogue\",\"version\":\"1\",\"documents\":[1],\"concurrency\":\"" ROGUE_CONCURRENCY
                             "\",\"methods\":[],\"future\":[]}}");
    if (!strcmp(method, "host.open")) {
        char refuse[64];
        member(request, "refuse", refuse, sizeof refuse);
        snprintf(text, sizeof text, "open %s", host);
        emit(self, text);
        if (refuse[0]) {
            snprintf(text, sizeof text, "{\"v\":1,\"err\":{\"code\":\"unreachable\",\"retry\":\"%s\",\"message\":\"no route\"}}", refuse);
            return answer(reply, text);
        }
        return answer(reply, "{\"v\":1,\"ok\":null}");
    }
    if (!strcmp(method, "host.close"))
        return answer(reply, "{\"v\":1,\"ok\":null}");
    snprintf(text, sizeof text, "began %s %s", method, host);
    emit(self, text);
    if (!strcmp(method, "x.segv"))
        *(volatile int *)0 = 1;
    if (!strcmp(method, "x.exit"))
        _exit(3);
    if (!strcmp(method, "x.hang"))
        for (;;)
            pause();
    if (!strcmp(method, "x.polite")) {
        while (!was_cancelled(self, id))
            usleep(2000);
        return answer(reply, "{\"v\":1,\"err\":{\"code\":\"cancelled\",\"retry\":\"never\",\"message\":\"as you wish\"}}");
    }
    if (!strcmp(method, "x.slow")) {
        pthread_mutex_lock(&self->lock);
        if (++self->running > self->peak)
            self->peak = self->running;
        pthread_mutex_unlock(&self->lock);
        usleep((useconds_t)number(request, "ms") * 1000);
        pthread_mutex_lock(&self->lock);
        self->running--;
        pthread_mutex_unlock(&self->lock);
        snprintf(text, sizeof text, "{\"v\":1,\"ok\":{\"pid\":%d,\"peak\":%d}}", (int)getpid(), self->peak);
        return answer(reply, text);
    }
    if (!strcmp(method, "x.not-json"))
        return answer(reply, "]nonsense");
    if (!strcmp(method, "x.neither"))
        return answer(reply, "{\"v\":1}");
    if (!strcmp(method, "x.no-reply"))
        return -7;
    if (!strcmp(method, "x.bad-fd")) {
        reply->nfds = 1;
        reply->fds[0] = 999;
        return answer(reply, "{\"v\":1,\"ok\":null}");
    }
    if (!strcmp(method, "x.many-fds")) {
        reply->nfds = 17;
        return answer(reply, "{\"v\":1,\"ok\":null}");
    }
    if (!strcmp(method, "x.garbage")) {
        int fd;
        struct stat stat;
        for (fd = 3; fd < 64; fd++)
            if (!fstat(fd, &stat) && S_ISSOCK(stat.st_mode) && write(fd, "GET / HTTP/1.1\r\n\r\n", 18) < 0)
                abort();
        for (;;)
            pause();
    }
    if (!strcmp(method, "x.fds")) {
        int ends[2];
        char read_text[32] = "";
        if (nfds != 2 || read(fds[0], read_text, 31) < 0 || write(fds[1], "from the plugin", 15) < 0 || pipe(ends) || write(ends[1], read_text, strlen(read_text)) < 0)
            return -1;
        close(ends[1]);
        reply->nfds = 1;
        reply->fds[0] = ends[0];
        return answer(reply, "{\"v\":1,\"ok\":null}");
    }
    if (!strcmp(method, "x.big")) {
        size_t size = (size_t)number(request, "reply_bytes");
        char *big = malloc(size + 64);
        int head = sprintf(big, "{\"v\":1,\"ok\":{\"got\":%lu,\"fill\":\"", (unsigned long)len);
        memset(big + head, 'x', size);
        strcpy(big + head + size, "\"}}");
        reply->data = (const uint8_t *)big;
        reply->len = strlen(big);
        reply->owner = big;
        return 0;
    }
    if (!strcmp(method, "x.events")) {
        long i, count = number(request, "count");
        for (i = 0; i < count; i++) {
            snprintf(text, sizeof text, "%ld", i);
            emit(self, text);
        }
        return answer(reply, "{\"v\":1,\"ok\":null}");
    }
    return answer(reply, "{\"v\":1,\"err\":{\"code\":\"unsupported\",\"retry\":\"never\",\"message\":\"no such method\"}}");
}

static int32_t rogue_call(void *self, const uint8_t *request, size_t len, const int32_t *fds, uint32_t nfds, struct vws_reply *reply) {
    char *text = malloc(len + 1);
    int32_t code;
    memcpy(text, request, len);
    text[len] = 0;
    code = work(self, text, len, fds, nfds, reply);
    free(text);
    return code;
}

static void rogue_cancel(void *data, const uint8_t *id, size_t len) {
    struct self *self = data;
    pthread_mutex_lock(&self->lock);
    if (len < 128) {
        char *slot = self->cancelled[self->cancels++ % 64];
        memcpy(slot, id, len);
        slot[len] = 0;
    }
    pthread_mutex_unlock(&self->lock);
}

static void rogue_release(struct vws_reply *reply) {
    uint32_t i;
    for (i = 0; i < reply->nfds && i < VWS_PLUGIN_MAX_FDS; i++)
        if (reply->fds[i] != 999)
            close(reply->fds[i]);
    free(reply->owner);
}

static void rogue_close(void *self) { free(self); }

static const struct vws_plugin PLUGIN = {ROGUE_SIZE, ROGUE_ABI, 0, "rogue", "1", rogue_open, rogue_call, rogue_cancel, rogue_release, rogue_close};

#ifdef ROGUE_CRASHES_AT_LOAD
__attribute__((constructor)) static void crash(void) { abort(); }
#endif

const struct vws_plugin *vws_plugin_entry(void) {
#ifdef ROGUE_NULL
    return NULL;
#else
    return &PLUGIN;
#endif
}
