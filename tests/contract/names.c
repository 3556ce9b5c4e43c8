/*
 * A name server of one line: `localhost` has the address that stands in the file NAMES_FILE. Loaded with
 * LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *name = getenv("NAMES_FILE");
    char address[64] = "";
    if (node && name && strcmp(node, "localhost") == 0) {
        FILE *file = fopen(name, "re");
        if (file) {
            if (fscanf(file, "%63s", address) != 1) address[0] = 0;
            fclose(file);
        }
    }
    return real(address[0] ? address : node, service, hints, found);
}
