//go:build cgo && linux && amd64

// What tund uses of Intel's IPsec Multi-Buffer library, declared here so that building
// needs neither its headers nor the library. See multibuffer.c.

#include <stddef.h>
#include <stdint.h>

// Arguments of the library's AES-256-GCM functions, as intel-ipsec-mb.h of the versions
// in multibuffer.go has them. Schedule is aligned to 64 bytes.
typedef void (*mb_expand)(const void *key, void *schedule);
typedef void (*mb_gcm)(const void *schedule, void *context, uint8_t *out, const uint8_t *in, uint64_t size,
		       const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size, uint8_t *tag, uint64_t tag_size);

enum {
	MB_TAG = 16,
	MB_AD = 12,
	MB_MAX_HEAD = 256,
	MB_SCHEDULE = 2048, // struct gcm_key_data: 1008 bytes in 1.3, 1264 in 2.0
	MB_CONTEXT = 128,   // struct gcm_context_data: 88 bytes in both
};

// mb_job is Job of batch.go.
struct mb_job {
	int64_t plain, sealed, size, head, head_size;
	uint8_t nonce[12];
	uint8_t ok;
};

// mb_functions are the functions for one kind of CPU.
struct mb_functions {
	mb_expand expand;
	mb_gcm seal, open;
};

void *mb_load(const char *file, char *error, size_t error_size);
void mb_unload(void *library);
uint32_t mb_version(void *library);
uint64_t mb_features(void *library);
int mb_find(void *library, const char *cpu, struct mb_functions *found);

void mb_call_expand(mb_expand expand, const uint8_t *key, uint8_t *schedule);
void mb_seal(mb_gcm seal, const uint8_t *schedule, uint8_t *out, const uint8_t *in, uint64_t size,
	     const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size);
int mb_open(mb_gcm open, const uint8_t *schedule, uint8_t *out, const uint8_t *in, uint64_t size,
	    const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size);
void mb_seal_batch(mb_gcm seal, const uint8_t *schedule, uint8_t *plain, uint8_t *sealed, const uint8_t *heads,
		   const struct mb_job *jobs, size_t count);
size_t mb_open_batch(mb_gcm open, const uint8_t *schedule, uint8_t *plain, const uint8_t *sealed, uint8_t *heads,
		     struct mb_job *jobs, size_t count);
