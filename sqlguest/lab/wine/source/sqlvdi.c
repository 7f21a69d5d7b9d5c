/* A sqlvdi.dll for the laboratory: the class, the two tables of methods and the
 * structures of SQL Server's Virtual Device Interface (vdi.h), with a connection to
 * a laboratory's SQL Server behind them instead of shared memory. The address is
 * in the environment: HOLDFAST_VDI_BRIDGE=127.0.0.1:port.
 *
 * It is strict where the real one is: calls out of turn fail, and a buffer's memory
 * is taken away when its command is completed, so that a client that looks at it
 * later dies. The frames are described in package bridge. */
#define COBJMACROS
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <objbase.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VD_E_TIMEOUT 0x80770003
#define VD_E_ABORT 0x80770004
#define VD_E_INVALID 0x80770006
#define VD_E_NOTSUPPORTED 0x80770009
#define VD_E_MEMORY 0x8077000a
#define VD_E_UNEXPECTED 0x8077000b
#define VD_E_PROTOCOL 0x8077000c
#define VD_E_OPEN 0x8077000d
#define VD_E_CLOSE 0x8077000e

enum { CREATE = 1, OPEN, COMPLETED, ABORT, CLOSE, CREATED = 16, CONFIGURED, OPENED, COMMAND, CLOSED, ABORTED };
enum { CODE_READ = 1, CODE_WRITE = 2 };

static const GUID class_set = {0x40700425, 0x0080, 0x11d2, {0x85, 0x1f, 0x00, 0xc0, 0x4f, 0xc2, 0x17, 0x59}};
static const GUID interface_set2 = {0xd0e6eb07, 0x7a62, 0x11d2, {0x85, 0x73, 0x00, 0xc0, 0x4f, 0xc2, 0x17, 0x59}};

typedef struct {
    uint32_t device_count, features, prefix_zone, alignment, soft_file_mark, eom_warning, server_timeout;
    uint32_t block_size, max_io_depth, max_transfer, buffer_area;
} config_t;

typedef struct {
    uint32_t code, size;
    uint64_t position;
    uint8_t *buffer;
} command_t;

_Static_assert(sizeof(config_t) == 44, "VDConfig has 44 bytes");
_Static_assert(sizeof(command_t) == 24, "VDC_Command has 24 bytes on x64");

/* A command in the queue of its device, or taken by the client. */
typedef struct item {
    command_t command; /* first: the client's pointer is ours */
    uint32_t ref;
    int taken;
    struct item *next;
} item_t;

struct set;

typedef struct {
    const void *const *methods;
    struct set *set;
    uint32_t index;
    int closed;
    item_t *items;
} device_t;

typedef struct set {
    const void *const *methods;
    LONG references;
    CRITICAL_SECTION lock;
    CRITICAL_SECTION sending;
    CONDITION_VARIABLE changed;
    SOCKET link;
    HANDLE reader;
    int created, create_known, configured, aborted, is_configured_seen;
    uint32_t create_result;
    config_t config;
    int opened_known;
    uint32_t opened_result, opened_index;
    uint32_t devices;
    device_t device[64];
} set_t;

/* ---- the connection ---- */

static int send_all(SOCKET s, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        int k = send(s, p, n > 1 << 20 ? 1 << 20 : (int)n, 0);
        if (k <= 0)
            return 0;
        p += k;
        n -= k;
    }
    return 1;
}

static int receive_all(SOCKET s, void *data, size_t n)
{
    char *p = data;
    while (n > 0) {
        int k = recv(s, p, n > 1 << 20 ? 1 << 20 : (int)n, 0);
        if (k <= 0)
            return 0;
        p += k;
        n -= k;
    }
    return 1;
}

static int send_frame(set_t *s, uint8_t kind, const void *head, uint32_t head_size, const void *data, uint32_t size)
{
    uint8_t start[5];
    uint32_t n = 1 + head_size + size;
    int ok;
    memcpy(start, &n, 4);
    start[4] = kind;
    EnterCriticalSection(&s->sending);
    ok = send_all(s->link, start, 5) && send_all(s->link, head, head_size) && send_all(s->link, data, size);
    LeaveCriticalSection(&s->sending);
    return ok;
}

static void wake(set_t *s) { WakeAllConditionVariable(&s->changed); }

static void mark_aborted(set_t *s)
{
    EnterCriticalSection(&s->lock);
    s->aborted = 1;
    wake(s);
    LeaveCriticalSection(&s->lock);
}

static uint32_t number(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* add_command makes a command with memory of its own pages. */
static int add_command(set_t *s, const uint8_t *body, uint32_t n)
{
    item_t *item, **last;
    uint32_t device, size;
    if (n < 24 || (device = number(body)) >= s->devices)
        return 0;
    item = calloc(1, sizeof *item);
    item->ref = number(body + 4);
    item->command.code = number(body + 8);
    size = item->command.size = number(body + 12);
    memcpy(&item->command.position, body + 16, 8);
    if (size > 0) {
        item->command.buffer = VirtualAlloc(NULL, size, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        if (!item->command.buffer)
            return 0;
        if (item->command.code == CODE_WRITE) {
            if (n - 24 != size)
                return 0;
            memcpy(item->command.buffer, body + 24, size);
        }
    }
    for (last = &s->device[device].items; *last; last = &(*last)->next)
        ;
    *last = item;
    return 1;
}

static int handle(set_t *s, uint8_t kind, const uint8_t *body, uint32_t n)
{
    switch (kind) {
    case CREATED:
        if (n < 4)
            return 0;
        s->create_result = number(body);
        s->create_known = 1;
        return 1;
    case CONFIGURED:
        if (n < sizeof s->config)
            return 0;
        memcpy(&s->config, body, sizeof s->config);
        s->configured = 1;
        return 1;
    case OPENED:
        if (n < 8)
            return 0;
        s->opened_result = number(body);
        s->opened_index = number(body + 4);
        s->opened_known = 1;
        if (s->opened_result == 0 && s->opened_index < 64)
            s->devices = s->opened_index + 1;
        return 1;
    case COMMAND:
        return add_command(s, body, n);
    case CLOSED:
        if (n < 4 || number(body) >= s->devices)
            return 0;
        s->device[number(body)].closed = 1;
        return 1;
    case ABORTED:
        s->aborted = 1;
        return 1;
    }
    return 0;
}

static DWORD WINAPI read_frames(void *argument)
{
    set_t *s = argument;
    uint8_t start[5];
    while (receive_all(s->link, start, 5)) {
        uint32_t n = number(start) - 1;
        uint8_t *body = malloc(n + 1);
        int ok = body && receive_all(s->link, body, n);
        if (ok) {
            EnterCriticalSection(&s->lock);
            ok = handle(s, start[4], body, n);
            wake(s);
            LeaveCriticalSection(&s->lock);
        }
        free(body);
        if (!ok)
            break;
    }
    mark_aborted(s); /* nobody answers any more */
    return 0;
}

static SOCKET dial(void)
{
    char text[64], *colon;
    struct sockaddr_in a = {0};
    SOCKET link;
    int on = 1;
    DWORD n = GetEnvironmentVariableA("HOLDFAST_VDI_BRIDGE", text, sizeof text);
    if (n == 0 || n >= sizeof text || !(colon = strchr(text, ':')))
        return INVALID_SOCKET;
    *colon = 0;
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = inet_addr(text);
    a.sin_port = htons((u_short)atoi(colon + 1));
    link = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (link == INVALID_SOCKET)
        return link;
    setsockopt(link, IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof on);
    if (connect(link, (struct sockaddr *)&a, sizeof a) != 0) {
        closesocket(link);
        return INVALID_SOCKET;
    }
    return link;
}

/* wait_change waits for news until the deadline; 0 when it has passed. */
static int wait_change(set_t *s, ULONGLONG deadline)
{
    ULONGLONG now;
    if (deadline == (ULONGLONG)-1)
        return SleepConditionVariableCS(&s->changed, &s->lock, INFINITE);
    now = GetTickCount64();
    if (now >= deadline)
        return 0;
    SleepConditionVariableCS(&s->changed, &s->lock, (DWORD)(deadline - now));
    return 1;
}

static ULONGLONG deadline_of(DWORD timeout)
{
    return timeout == INFINITE ? (ULONGLONG)-1 : GetTickCount64() + timeout;
}

/* put_text appends length and UTF-8. */
static uint32_t put_text(uint8_t *to, const WCHAR *text)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, text, -1, (char *)to + 2, 1000, NULL, NULL);
    uint16_t size = n > 0 ? (uint16_t)(n - 1) : 0;
    memcpy(to, &size, 2);
    return 2 + size;
}

/* ---- IClientVirtualDevice ---- */

static HRESULT WINAPI device_query(device_t *d, const IID *id, void **out)
{
    (void)d;
    (void)id;
    *out = NULL;
    return E_NOINTERFACE;
}

static ULONG WINAPI device_count(device_t *d)
{
    (void)d;
    return 1; /* it lives as long as its set */
}

static HRESULT WINAPI device_get_command(device_t *d, DWORD timeout, command_t **out)
{
    set_t *s = d->set;
    ULONGLONG deadline = deadline_of(timeout);
    HRESULT result = 0;
    item_t *i;
    EnterCriticalSection(&s->lock);
    for (;;) {
        if (s->aborted) {
            result = VD_E_ABORT;
            break;
        }
        for (i = d->items; i && i->taken; i = i->next)
            ;
        if (i) {
            i->taken = 1;
            *out = &i->command;
            break;
        }
        if (d->closed) {
            result = VD_E_CLOSE;
            break;
        }
        if (!wait_change(s, deadline)) {
            result = VD_E_TIMEOUT;
            break;
        }
    }
    LeaveCriticalSection(&s->lock);
    return result;
}

static HRESULT WINAPI device_complete(device_t *d, command_t *command, uint32_t code, uint32_t bytes, uint64_t position)
{
    set_t *s = d->set;
    item_t **at, *i;
    uint8_t head[24];
    int sent;
    EnterCriticalSection(&s->lock);
    for (at = &d->items; *at && &(*at)->command != command; at = &(*at)->next)
        ;
    i = *at;
    if (i && i->taken)
        *at = i->next;
    else
        i = NULL;
    LeaveCriticalSection(&s->lock);
    if (!i)
        return VD_E_INVALID;
    memcpy(head, &d->index, 4);
    memcpy(head + 4, &i->ref, 4);
    memcpy(head + 8, &code, 4);
    memcpy(head + 12, &bytes, 4);
    memcpy(head + 16, &position, 8);
    sent = send_frame(s, COMPLETED, head, 24, i->command.buffer, i->command.code == CODE_READ && bytes <= i->command.size ? bytes : 0);
    if (i->command.buffer)
        VirtualFree(i->command.buffer, 0, MEM_RELEASE);
    free(i);
    if (!sent)
        mark_aborted(s);
    return s->aborted ? VD_E_ABORT : 0;
}

static const void *const device_methods[] = {device_query, device_count, device_count, device_get_command, device_complete};

/* ---- IClientVirtualDeviceSet2 ---- */

static HRESULT WINAPI set_query(set_t *s, const IID *id, void **out)
{
    if (IsEqualIID(id, &IID_IUnknown) || IsEqualIID(id, &class_set) || IsEqualIID(id, &interface_set2)) {
        InterlockedIncrement(&s->references);
        *out = s;
        return S_OK;
    }
    *out = NULL;
    return E_NOINTERFACE;
}

static ULONG WINAPI set_add_reference(set_t *s) { return InterlockedIncrement(&s->references); }

static void drop_link(set_t *s)
{
    if (s->link == INVALID_SOCKET)
        return;
    shutdown(s->link, SD_BOTH);
    closesocket(s->link);
    if (s->reader) {
        WaitForSingleObject(s->reader, INFINITE);
        CloseHandle(s->reader);
    }
    s->link = INVALID_SOCKET;
    s->reader = NULL;
}

static ULONG WINAPI set_release(set_t *s)
{
    ULONG left = InterlockedDecrement(&s->references);
    if (left == 0) {
        drop_link(s);
        DeleteCriticalSection(&s->lock);
        DeleteCriticalSection(&s->sending);
        free(s);
    }
    return left;
}

static HRESULT WINAPI set_create_ex(set_t *s, const WCHAR *instance, const WCHAR *name, config_t *config)
{
    uint8_t *body;
    uint32_t n = sizeof *config;
    HRESULT result;
    if (s->created)
        return VD_E_PROTOCOL;
    if (!config || !name || !*name || config->device_count < 1 || config->device_count > 64)
        return VD_E_NOTSUPPORTED;
    s->link = dial();
    if (s->link == INVALID_SOCKET)
        return VD_E_UNEXPECTED;
    body = malloc(4096);
    memcpy(body, config, sizeof *config);
    body[n++] = instance != NULL;
    if (instance)
        n += put_text(body + n, instance);
    n += put_text(body + n, name);
    s->reader = CreateThread(NULL, 0, read_frames, s, 0, NULL);
    if (!send_frame(s, CREATE, body, n, NULL, 0))
        mark_aborted(s);
    free(body);
    EnterCriticalSection(&s->lock);
    while (!s->create_known && !s->aborted)
        wait_change(s, (ULONGLONG)-1);
    result = (HRESULT)(s->create_known ? s->create_result : VD_E_UNEXPECTED);
    LeaveCriticalSection(&s->lock);
    s->created = result == 0;
    return result;
}

static HRESULT WINAPI set_create(set_t *s, const WCHAR *name, config_t *config) { return set_create_ex(s, NULL, name, config); }

static HRESULT WINAPI set_get_configuration(set_t *s, DWORD timeout, config_t *out)
{
    ULONGLONG deadline = deadline_of(timeout);
    HRESULT result = 0;
    if (!s->created)
        return VD_E_PROTOCOL;
    EnterCriticalSection(&s->lock);
    while (!s->configured && !s->aborted && result == 0)
        if (!wait_change(s, deadline))
            result = VD_E_TIMEOUT;
    if (s->aborted)
        result = VD_E_ABORT;
    else if (s->configured) {
        *out = s->config;
        s->is_configured_seen = 1;
        result = 0;
    }
    LeaveCriticalSection(&s->lock);
    return result;
}

static HRESULT WINAPI set_open_device(set_t *s, const WCHAR *name, device_t **out)
{
    uint8_t body[1100];
    HRESULT result;
    *out = NULL;
    if (!s->created || !s->is_configured_seen)
        return VD_E_PROTOCOL;
    s->opened_known = 0;
    if (!send_frame(s, OPEN, body, put_text(body, name), NULL, 0))
        mark_aborted(s);
    EnterCriticalSection(&s->lock);
    while (!s->opened_known && !s->aborted)
        wait_change(s, (ULONGLONG)-1);
    if (!s->opened_known)
        result = VD_E_ABORT;
    else if ((result = (HRESULT)s->opened_result) == 0) {
        device_t *d = &s->device[s->opened_index];
        d->methods = device_methods;
        d->set = s;
        d->index = s->opened_index;
        *out = d;
    }
    LeaveCriticalSection(&s->lock);
    return result;
}

static HRESULT WINAPI set_abort(set_t *s)
{
    if (!s->created)
        return VD_E_PROTOCOL;
    send_frame(s, ABORT, NULL, 0, NULL, 0);
    mark_aborted(s);
    return 0;
}

static HRESULT WINAPI set_close(set_t *s)
{
    HRESULT result = 0;
    uint32_t i;
    if (!s->created)
        return VD_E_PROTOCOL;
    EnterCriticalSection(&s->lock);
    for (i = 0; i < s->devices; i++)
        if (!s->device[i].closed && !s->aborted)
            result = VD_E_OPEN;
    LeaveCriticalSection(&s->lock);
    if (result)
        set_abort(s);
    send_frame(s, CLOSE, NULL, 0, NULL, 0);
    drop_link(s);
    s->created = 0;
    return result;
}

static HRESULT WINAPI set_not_supported(set_t *s)
{
    (void)s;
    return VD_E_NOTSUPPORTED;
}

static const void *const set_methods[] = {
    set_query, set_add_reference, set_release, set_create, set_get_configuration, set_open_device, set_close, set_abort,
    set_not_supported, set_not_supported, set_not_supported, set_create_ex, set_not_supported,
};

/* ---- the class ---- */

static HRESULT WINAPI factory_query(IClassFactory *f, const IID *id, void **out)
{
    if (IsEqualIID(id, &IID_IUnknown) || IsEqualIID(id, &IID_IClassFactory)) {
        *out = f;
        return S_OK;
    }
    *out = NULL;
    return E_NOINTERFACE;
}

static ULONG WINAPI factory_count(IClassFactory *f)
{
    (void)f;
    return 1;
}

static HRESULT WINAPI factory_create(IClassFactory *f, IUnknown *outer, const IID *id, void **out)
{
    set_t *s;
    HRESULT result;
    (void)f;
    *out = NULL;
    if (outer)
        return CLASS_E_NOAGGREGATION;
    s = calloc(1, sizeof *s);
    if (!s)
        return E_OUTOFMEMORY;
    s->methods = set_methods;
    s->references = 1;
    s->link = INVALID_SOCKET;
    InitializeCriticalSection(&s->lock);
    InitializeCriticalSection(&s->sending);
    InitializeConditionVariable(&s->changed);
    result = set_query(s, id, out);
    set_release(s);
    return result;
}

static HRESULT WINAPI factory_lock(IClassFactory *f, BOOL lock)
{
    (void)f;
    (void)lock;
    return S_OK;
}

static IClassFactoryVtbl factory_methods = {factory_query, factory_count, factory_count, factory_create, factory_lock};
static IClassFactory factory = {&factory_methods};

__declspec(dllexport) HRESULT WINAPI DllGetClassObject(REFCLSID id, REFIID interface_id, void **out)
{
    WSADATA data;
    *out = NULL;
    if (!IsEqualCLSID(id, &class_set))
        return CLASS_E_CLASSNOTAVAILABLE;
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0)
        return E_FAIL;
    return factory_query(&factory, interface_id, out);
}

__declspec(dllexport) HRESULT WINAPI DllCanUnloadNow(void) { return S_FALSE; }
