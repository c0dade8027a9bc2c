/* Stands in front of fdatasync: once the file that FAIL_SYNC names is there, a sync fails as that of a broken disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int descriptor)
{
    const char *sign = getenv("FAIL_SYNC");
    if (sign != NULL && access(sign, F_OK) == 0) {
        unlink(sign);
        errno = EIO;
        return -1;
    }
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return next(descriptor);
}
