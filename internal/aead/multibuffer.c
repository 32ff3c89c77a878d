//go:build cgo && linux && amd64

// Loads the library, and calls it for one datagram or a batch. Go checks every bound
// before it calls; nothing here keeps a pointer. The library writes plaintext before it
// knows whether that is authentic, and leaves comparing the tag to its caller.

#include "multibuffer.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *mb_load(const char *file, char *error, size_t error_size)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		snprintf(error, error_size, "%s", dlerror());
	return library;
}

void mb_unload(void *library)
{
	dlclose(library);
}

uint32_t mb_version(void *library)
{
	unsigned (*get)(void) = (unsigned (*)(void))dlsym(library, "imb_get_version");

	return get == NULL ? 0 : get();
}

uint64_t mb_features(void *library)
{
	uint64_t (*get)(void) = (uint64_t(*)(void))dlsym(library, "imb_get_feature_flags");

	return get == NULL ? 0 : get();
}

static void *find(void *library, const char *operation, const char *cpu)
{
	char name[64];

	snprintf(name, sizeof(name), "aes_gcm_%s_256_%s", operation, cpu);
	return dlsym(library, name);
}

int mb_find(void *library, const char *cpu, struct mb_functions *found)
{
	found->expand = (mb_expand)find(library, "pre", cpu);
	found->seal = (mb_gcm)find(library, "enc", cpu);
	found->open = (mb_gcm)find(library, "dec", cpu);
	return found->expand != NULL && found->seal != NULL && found->open != NULL;
}

// context is what the library works in; it is wiped, since it holds traces of the key.
struct context {
	uint8_t bytes[MB_CONTEXT];
} __attribute__((aligned(64)));

static void wipe(struct context *c)
{
	memset(c, 0, sizeof(*c));
	__asm__ volatile("" : : "r"(c) : "memory");
}

static void seal_one(mb_gcm seal, const uint8_t *schedule, struct context *c, uint8_t *out, const uint8_t *in,
		     uint64_t size, const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size)
{
	seal(schedule, c, out, in, size, nonce, ad, ad_size, out + size, MB_TAG);
}

// open_one compares tags in constant time and zeroes what is not authentic. The tag is
// copied first: opening in place must not depend on what the library leaves behind.
static int open_one(mb_gcm open, const uint8_t *schedule, struct context *c, uint8_t *out, const uint8_t *in,
		    uint64_t size, const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size)
{
	uint64_t want[2], got[2] = {0, 0};

	memcpy(want, in + size, MB_TAG);
	got[0] = ~want[0]; // a call that wrote no tag must not pass
	open(schedule, c, out, in, size, nonce, ad, ad_size, (uint8_t *)got, MB_TAG);
	if (((want[0] ^ got[0]) | (want[1] ^ got[1])) == 0)
		return 1;
	memset(out, 0, size);
	return 0;
}

void mb_call_expand(mb_expand expand, const uint8_t *key, uint8_t *schedule)
{
	expand(key, schedule);
}

void mb_seal(mb_gcm seal, const uint8_t *schedule, uint8_t *out, const uint8_t *in, uint64_t size,
	     const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size)
{
	struct context c;

	seal_one(seal, schedule, &c, out, in, size, nonce, ad, ad_size);
	wipe(&c);
}

int mb_open(mb_gcm open, const uint8_t *schedule, uint8_t *out, const uint8_t *in, uint64_t size,
	    const uint8_t *nonce, const uint8_t *ad, uint64_t ad_size)
{
	struct context c;
	int ok = open_one(open, schedule, &c, out, in, size, nonce, ad, ad_size);

	wipe(&c);
	return ok;
}

void mb_seal_batch(mb_gcm seal, const uint8_t *schedule, uint8_t *plain, uint8_t *sealed, const uint8_t *heads,
		   const struct mb_job *jobs, size_t count)
{
	struct context c;

	for (const struct mb_job *j = jobs; j < jobs + count; j++) {
		uint8_t *in = plain + j->plain, *out = sealed + j->sealed;

		if (j->head_size > 0)
			memcpy(in, heads + j->head, j->head_size);
		seal_one(seal, schedule, &c, out, in, j->size, j->nonce, out - MB_AD, MB_AD);
	}
	wipe(&c);
}

size_t mb_open_batch(mb_gcm open, const uint8_t *schedule, uint8_t *plain, const uint8_t *sealed, uint8_t *heads,
		     struct mb_job *jobs, size_t count)
{
	struct context c;
	uint8_t covered[MB_MAX_HEAD];
	size_t opened = 0;

	for (struct mb_job *j = jobs; j < jobs + count; j++) {
		const uint8_t *in = sealed + j->sealed;
		uint8_t *out = plain + j->plain;

		if (j->head_size > 0)
			memcpy(covered, out, j->head_size);
		j->ok = open_one(open, schedule, &c, out, in, j->size, j->nonce, in - MB_AD, MB_AD);
		if (j->head_size > 0) {
			memcpy(heads + j->head, out, j->head_size);
			memcpy(out, covered, j->head_size);
		}
		opened += j->ok;
	}
	wipe(&c);
	return opened;
}
