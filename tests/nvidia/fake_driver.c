/* A driver for tests of what is called with what: the functions of NVML and CUDA that we use, as NVIDIA's references declare them.
   Its GPU is memory of this process. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static unsigned sm_mhz = 1980;
void fake_set_sm(unsigned mhz) { sm_mhz = mhz; }

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(uintptr_t)0x700000001; return index != 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { *device = (void *)(uintptr_t)0x700000001; return strcmp(uuid, "GPU-1") != 0; }
static int known(void *device) { return device == (void *)(uintptr_t)0x700000001 ? 0 : 2; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { strncpy(name, "NVIDIA Fake", length); return known(device); }
int nvmlSystemGetDriverVersion(char *version, unsigned length) { strncpy(version, "580.1", length); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13010; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { *major = 9; *minor = 0; return known(device); }
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) { memory->total = 141ull << 30; return known(device); }
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz) { *mhz = type == 1 ? sm_mhz : 3201; return known(device); }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { *celsius = 41; return known(device) || sensor; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 310400; return known(device); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { *reasons = 0x24; return known(device); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) { return 3; /* not supported */ }

/* CUDA's driver. Work is done at once unless the stream captures; then it is kept, and done when the graph is launched. */
typedef unsigned long long pointer_t;
typedef struct { int kind; void *to; const void *from; size_t bytes; } work_t;
typedef struct { work_t work[64]; int count; } graph_t;
static graph_t *capturing;
static float clock_ms;
static int context_is_current;

int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal != 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(uintptr_t)0x800000002; return device != 7; }
int cuCtxSetCurrent(void *context) { return !(context_is_current = context == (void *)(uintptr_t)0x800000002); }
int cuMemAlloc_v2(pointer_t *pointer, size_t bytes) { *pointer = (pointer_t)(uintptr_t)calloc(1, bytes); return !context_is_current; }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { *pointer = calloc(1, bytes); return flags != 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)(uintptr_t)0x900000003; return flags != 1; }
static int is_stream(void *stream) { return stream == (void *)(uintptr_t)0x900000003 ? 0 : 400; }
static int put(work_t work) {
    if (capturing) capturing->work[capturing->count++] = work;
    else { memcpy(work.to, work.from, work.bytes); clock_ms += 0.25f; }
    return 0;
}
int cuMemcpyHtoDAsync_v2(pointer_t to, const void *from, size_t bytes, void *stream) { work_t w = {0, (void *)(uintptr_t)to, from, bytes}; return is_stream(stream) || put(w); }
int cuMemcpyDtoHAsync_v2(void *to, pointer_t from, size_t bytes, void *stream) { work_t w = {1, to, (const void *)(uintptr_t)from, bytes}; return is_stream(stream) || put(w); }
int cuStreamSynchronize(void *stream) { return capturing ? 900 : is_stream(stream); }
int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = calloc(1, sizeof(graph_t)); return is_stream(stream) || mode != 1; }
int cuStreamEndCapture(void *stream, void **graph) { *graph = capturing; capturing = 0; return is_stream(stream); }
int cuGraphInstantiateWithFlags(void **run, void *graph, unsigned long long flags) { *run = graph; return flags != 0; }
int cuGraphLaunch(void *run, void *stream) {
    graph_t *graph = run;
    for (int i = 0; i < graph->count; i++) put(graph->work[i]);
    return is_stream(stream);
}
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(float)); return flags != 0; }
int cuEventRecord(void *event, void *stream) { *(float *)event = clock_ms; return is_stream(stream); }
int cuEventSynchronize(void *event) { return event == 0; }
int cuEventElapsedTime(float *ms, void *start, void *end) { *ms = *(float *)end - *(float *)start; return 0; }
int cuGetErrorString(int error, const char **words) { *words = error == 900 ? "operation not permitted when stream is capturing" : "fake error"; return 0; }

/* What a network would put into the stream: its output is its input. */
int fake_identity(pointer_t to, pointer_t from, size_t bytes, void *stream) {
    work_t w = {2, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes};
    return is_stream(stream) || put(w);
}
