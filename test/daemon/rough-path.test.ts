import { testRoughPaths } from './support/rough-paths.js';

testRoughPaths('under daemons', 'net');
testRoughPaths('under daemons that encrypt or refuse', 'net', 'private');
