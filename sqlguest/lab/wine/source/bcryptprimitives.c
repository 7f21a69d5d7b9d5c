/* bcryptprimitives.dll for Wine releases that have none: programs built by Go ask
 * its ProcessPrng for random bytes when they start. SystemFunction036 of advapi32
 * is RtlGenRandom. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    while (length > 0) {
        ULONG n = length > 0x10000 ? 0x10000 : (ULONG)length;
        if (!SystemFunction036(buffer, n))
            return FALSE;
        buffer += n;
        length -= n;
    }
    return TRUE;
}
