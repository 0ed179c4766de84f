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
