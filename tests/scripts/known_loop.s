// known(n): n times a loop of 12 instructions; 5 before it, a branch taken or not among them, and 3 behind it.

        .arch   armv8.2-a+dotprod+i8mm
        .text
        .global known
        .type   known, %function
known:
        sub     sp, sp, #32             // 1
        cbz     x0, out                 // 2: a branch
        movi    v0.4s, #0               // 3
        movi    v1.4s, #0               // 4
        mov     x1, sp                  // 5
loop:
        sdot    v0.4s, v1.16b, v1.16b               // dot
        udot    v0.4s, v1.16b, v1.4b[2]             // dot
        smull   v2.8h, v1.8b, v1.8b                 // multiply_long
        smlal2  v2.8h, v1.16b, v1.16b               // multiply_long
        sadalp  v0.4s, v2.8h                        // pairwise_add
        tbl     v3.16b, {v1.16b}, v3.16b            // table
        sqrdmulh v4.4s, v1.4s, v0.4s                // multiply
        fmla    v5.4s, v6.4s, v7.s[1]               // float
        ldp     q6, q7, [sp]                        // load, stack
        str     q0, [x1]                            // store
        subs    x0, x0, #1
        b.ne    loop                                // branch
        nop
out:
        add     sp, sp, #32
        ret                                         // branch
        .size   known, .-known
